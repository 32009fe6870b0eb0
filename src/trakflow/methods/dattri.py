"""TRAK by the library dattri, as it is installed from PyPI (extra `peers`)."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

from trakflow.errors import ConfigError
from trakflow.extras import import_extra, require_extra
from trakflow.methods.base import CheckpointsMethod, Planned, Trained
from trakflow.methods.functional import Functional, check_functional, library, library_seed, sizes


class Dattri(CheckpointsMethod):
    """dattri's `TRAKAttributor` with the task's f and Q: mean of Phi (Phi^T Phi + r I)^-1 phi, times the mean of Q.

    It divides gradients by the square root of the number of parameters, and projects by a normal matrix; entries of
    gradients that are NaN count as zero there.

    Args:
        k: Number of features, its `proj_dim`.
        regularization: Added to the diagonal of its Gram matrix; its own default is 0.
        parameters: Patterns of the names to differentiate by, as `sketch.parameters`; None for all.
        batch_size: Examples at a time; None for as many as the memory allows.
    """

    def __init__(
        self,
        k: int | None,
        regularization: float = 0.0,
        parameters: list[str] | None = None,
        batch_size: int | None = None,
    ):
        if k is None or k < 1 or regularization < 0 or (batch_size is not None and batch_size < 1):
            raise ConfigError(
                f"method.dattri.make needs k >= 1, regularization >= 0 and batch_size >= 1 or null, but has k={k}, "
                f"regularization={regularization} and batch_size={batch_size}."
            )
        self._k = k
        self._regularization = regularization
        self._parameters = parameters
        self._batch_size = batch_size

    def check(self, planned: Planned) -> None:
        """Refuse a missing package, too many features, and a model whose gradients it cannot take."""
        require_extra("dattri", "peers")
        check_functional(planned, self._k, self._regularization, self._parameters, "dattri")

    def scores(self, trained: Sequence[Trained]) -> Float[Tensor, "n m"]:
        """Cache the training set by each checkpoint, then attribute the targets by each.

        Raises:
            ConfigError: The package is missing, or without a ridge there are too many features.
            NumericalError: A Gram matrix has no inverse.
            SketchError: The model cannot be run under ``torch.func.vmap``.
        """
        import_extra("dattri", "peers")
        first = trained[0]
        found = sizes(first, self._k, self._regularization, self._parameters, self._batch_size, "dattri")
        # Every checkpoint is loaded into it.
        model = copy.deepcopy(first.model)
        for name, value in model.named_parameters():
            # It takes gradients by what requires one.
            value.requires_grad_(name in found.parameters)
        functional = Functional(first.task, tuple(first.train))
        train, targets = (_loader(list(arrays.values()), found.batch) for arrays in (first.train, first.targets))
        kind = {"proj_type": "normal", "proj_seed": library_seed(first, "dattri")}
        with library("dattri"):
            attributor = make_attributor(
                model, functional, trained, self._k, first.device, self._regularization, **kind
            )
            attributor.cache(train)
            functional.fields = tuple(first.targets)
            return attributor.attribute(targets).detach()


def make_attributor(
    model: nn.Module,
    functional: Functional,
    trained: Sequence[Trained],
    k: int,
    device: str,
    regularization: float = 0.0,
    **projector: Any,
) -> Any:
    """Return dattri's attributor by f and Q of a task.

    Args:
        model: What checkpoints are loaded into.
        functional: f and Q.
        trained: The checkpoints; each is loaded when its turn comes.
        k: Number of features.
        device: As torch names it.
        regularization: Added to the diagonal of its Gram matrix.
        projector: Further arguments of its projector.
    """
    trak, task = import_extra("dattri.algorithm.trak", "peers"), import_extra("dattri.task", "peers")

    def output(parameters: Any, example: tuple[Tensor, ...]) -> Tensor:
        return functional.output(model, parameters, example)

    def probability(parameters: Any, example: tuple[Tensor, ...]) -> Tensor:
        # It takes 1 - p for Q, which holds for classification; given 1 - Q, it is Q of any task.
        return 1 - functional.loss_gradient(model, parameters, example)

    def load(into: nn.Module, number: int) -> nn.Module:
        one = trained[number]
        functional.task = one.task
        into.load_state_dict(one.model.state_dict())
        return into

    with _defaults_kept(trak):
        return trak.TRAKAttributor(
            task.AttributionTask(
                loss_func=output,
                model=model,
                checkpoints=list(range(len(trained))),
                checkpoints_load_func=load,
            ),
            correct_probability_func=probability,
            projector_kwargs={"proj_dim": k, "device": device, **projector},
            device=device,
            regularization=regularization,
        )


@contextlib.contextmanager
def _defaults_kept(trak: Any) -> Iterator[None]:
    # It writes what it is given into its defaults, and hands these to the next attributor as well.
    defaults = trak.DEFAULT_PROJECTOR_KWARGS
    trak.DEFAULT_PROJECTOR_KWARGS = dict(defaults)
    try:
        yield
    finally:
        trak.DEFAULT_PROJECTOR_KWARGS = defaults


def _loader(arrays: Sequence[Tensor], size: int) -> "DataLoader[tuple[Tensor, ...]]":
    """A data loader that takes whole batches out of the tensors, and collates nothing."""
    data = TensorDataset(*arrays)
    return DataLoader(data, batch_size=None, sampler=BatchSampler(SequentialSampler(data), size, drop_last=False))
