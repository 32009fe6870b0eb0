"""Representation similarity: how alike the last hidden layer is for a training example and a target."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trakflow.errors import ConfigError
from trakflow.methods.base import CheckpointMethod, Planned, Trained
from trakflow.tasks.running import floating_type, run_model


class RepresentationSimilarity(CheckpointMethod):
    """Product or cosine of the inputs of the model's last linear layer (a baseline of the paper, section 4).

    It knows nothing of what the model learnt from an example, so its sign says only how alike two examples are; where
    examples have labels, those of another label than the target's count as harmful.

    Args:
        kind: `cosine` or `dot`.
        layer: Name of the module whose input is the representation; None for the last `nn.Linear`.
        signed: Whether examples of another label get the opposite sign.
    """

    def __init__(self, kind: str = "cosine", layer: str | None = None, signed: bool = True):
        if kind not in ("cosine", "dot"):
            raise ConfigError(f"kind={kind} of method representation_similarity must be cosine or dot.")
        self._kind = kind
        self._layer = layer
        self._signed = signed

    def check(self, planned: Planned) -> None:
        """Refuse a layer that is not there or has no input of its own for each example, and signs without labels."""
        trained = planned.trained
        self._representations(trained, self._module(trained.model), trained.train)
        if self._signed:
            _require_labels(trained.train)

    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """Similarity of every training example with every target."""
        module = self._module(trained.model)
        rows, targets = (self._representations(trained, module, arrays) for arrays in (trained.train, trained.targets))
        if self._kind == "cosine":
            rows, targets = functional.normalize(rows, dim=1), functional.normalize(targets, dim=1)
        similarity = rows @ targets.T
        if not self._signed:
            return similarity
        _require_labels(trained.train)
        _require_labels(trained.targets)
        same = trained.train["labels"][:, None] == trained.targets["labels"][None, :]
        return torch.where(same, similarity, -similarity)

    def _module(self, model: nn.Module) -> nn.Module:
        if self._layer is not None:
            try:
                return model.get_submodule(self._layer)
            except AttributeError as error:
                raise ConfigError(
                    f"The model has no module '{self._layer}' (method representation_similarity)."
                ) from error
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ConfigError(
                "The model has no nn.Linear; name the layer by method.representation_similarity.make.layer."
            )
        return linear[-1]

    def _representations(
        self, trained: Trained, module: nn.Module, arrays: Mapping[str, Tensor]
    ) -> Float[Tensor, "rows size"]:
        found: list[Tensor] = []
        hook = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].detach().flatten(1).float()))
        size, dtype = len(next(iter(arrays.values()))), floating_type(trained.model)
        try:
            with torch.no_grad():
                for start in range(0, size, trained.batch_size):
                    batch = {name: array[start : start + trained.batch_size] for name, array in arrays.items()}
                    run_model(trained.task, trained.model, batch, dtype)
        finally:
            hook.remove()
        rows = torch.cat(found) if found else torch.empty(0)
        if len(rows) != size:
            raise ConfigError(
                f"The layer of method representation_similarity saw {len(rows)} inputs for {size} examples: name one "
                "that is called once for each batch of examples, by method.representation_similarity.make.layer."
            )
        return rows


def _require_labels(arrays: Mapping[str, Tensor]) -> None:
    if "labels" not in arrays or arrays["labels"].ndim != 1:
        raise ConfigError(
            "Examples have no label each, by which method representation_similarity gives its signs; set "
            "method.representation_similarity.make.signed=false."
        )
