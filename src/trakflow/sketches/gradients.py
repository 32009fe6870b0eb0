"""A sketch through explicit per-example gradients: ``vmap(grad(f))``, projected a parameter tensor at a time."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from trakflow.errors import SketchError
from trakflow.sketches.base import Projection, Sketch, SketchedBatch
from trakflow.sketches.memory import activation_bytes
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.running import floating_type, run_model


class GradientSketch(Sketch):
    """Per-example gradients of the task's output, projected by any `Projection`.

    Args:
        model: The model with its weights; it is put in evaluation mode, so that no example influences another.
        task: Defines the output.
        projection: The random map.
        parameters: Those that features are gradients by.
    """

    def __init__(self, model: nn.Module, task: Task, projection: Projection, parameters: Mapping[str, Tensor]):
        # torch.func imports this at its first gradient, for a second; done here, it does not count as featurizing.
        import torch._dynamo  # noqa: F401

        self.k = projection.k
        self._model = model.eval()
        self._task = task
        self._dtype = floating_type(model)
        self._projection = projection
        self._parameters = dict(parameters)
        frozen = {name: value.detach() for name, value in model.named_parameters() if name not in parameters}
        self._constants = {**frozen, **dict(model.named_buffers())}
        self._gradients = vmap(grad(self._output_of_one, has_aux=True), in_dims=(None, 0), randomness="error")

    def _output_of_one(self, parameters: dict[str, Tensor], example: dict[str, Tensor]) -> tuple[Tensor, Any]:
        batch = {name: value.unsqueeze(0) for name, value in example.items()}
        model = partial(_call, self._model, {**parameters, **self._constants})
        raw = run_model(self._task, model, batch, self._dtype)
        return self._task.output(raw, batch).squeeze(0), raw.squeeze(0)

    def __call__(self, batch: Batch) -> SketchedBatch:
        """Sketch a batch; holds the gradients of the whole batch while it runs.

        Raises:
            SketchError: The model does something that cannot be done under ``torch.func.vmap``.
        """
        gradients, raw = self._explicit(batch)
        size = raw.shape[0]
        features = torch.zeros(size, self.k, dtype=torch.float32, device=raw.device)
        with torch.no_grad():
            for name in self._parameters:
                self._projection.add(features, name, gradients.pop(name).reshape(size, -1).float())
            return SketchedBatch(
                features,
                self._task.output(raw, batch).float(),
                self._task.loss_gradient(raw, batch).float(),
                None if (curvature := self._task.curvature(raw, batch)) is None else curvature.float(),
            )

    def try_on(self, batch: Batch) -> None:
        """Take the gradients of the batch, and project none.

        Raises:
            SketchError: As a call.
        """
        self._explicit(batch)

    def _explicit(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        try:
            return self._gradients(self._parameters, dict(batch))
        except RuntimeError as error:
            if "vmap" not in str(error) and "functorch" not in str(error):
                raise
            raise SketchError(
                "This sketch takes explicit gradients under torch.func.vmap, where the model fails: "
                f"{' '.join(str(error).split())[:200]}. Choose a sketch with hooks (sketch=tensor_sketch or "
                "sketch=factorized), or change the model. Models of transformers look at the values of a mask of shape "
                "(batch, length), and at no additive one of shape (batch, 1, 1, length), as trakflow.models.bert has; "
                "with attn_implementation='eager' many look at no mask."
            ) from error

    def bytes_per_example(self, example: Batch) -> int:
        """Activations and their gradients; the gradient by all parameters, and copies of it while it is projected."""
        entries = sum(parameter.numel() for parameter in self._parameters.values())
        return 2 * activation_bytes(self._model, self._task, example) + 4 * (3 * entries + self.k)


def _call(model: nn.Module, tensors: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
    return functional_call(model, tensors, args, kwargs)
