"""TRAK by the paper's own library, traker, as it is installed from PyPI (extra `peers`)."""

import copy
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trakflow.errors import ConfigError
from trakflow.extras import import_extra, require_extra
from trakflow.methods.base import CheckpointsMethod, Planned, Trained
from trakflow.methods.functional import Functional, Sizes, batches, check_functional, library, library_seed, sizes

EXPERIMENT = "targets"


class Traker(CheckpointsMethod):
    """The loop of traker's quickstart with the task's f and Q: mean of Phi (Phi^T Phi + lambda I)^-1 phi times mean Q.

    It divides gradients by the square root of the number of parameters, and each inverse by its mean absolute entry, so
    that scores are known up to a factor. Its arrays lie in a temporary folder.

    Args:
        k: Number of features, its `proj_dim`.
        lambda_reg: Added to the diagonal of its Gram matrix; its own default is 0.
        half_precision: Keep features and Gram matrices in float16, its own default, made for GPUs.
        projector: ``default`` for what it takes by itself: normal entries drawn in blocks on a CPU, its CUDA kernel on
            a GPU. ``basic`` for the former on any device.
        parameters: Patterns of the names to differentiate by, as `sketch.parameters`; None for all.
        batch_size: Examples at a time; None for as many as the memory allows.
    """

    def __init__(
        self,
        k: int | None,
        lambda_reg: float = 0.0,
        half_precision: bool = False,
        projector: str = "default",
        parameters: list[str] | None = None,
        batch_size: int | None = None,
    ):
        if k is None or k < 1 or lambda_reg < 0 or (batch_size is not None and batch_size < 1):
            raise ConfigError(
                f"method.traker.make needs k >= 1, lambda_reg >= 0 and batch_size >= 1 or null, but has k={k}, "
                f"lambda_reg={lambda_reg} and batch_size={batch_size}."
            )
        if projector not in ("default", "basic"):
            raise ConfigError(f"method.traker.make.projector={projector} must be default or basic.")
        self._k = k
        self._lambda_reg = lambda_reg
        self._half_precision = half_precision
        self._projector = projector
        self._parameters = parameters
        self._batch_size = batch_size

    def check(self, planned: Planned) -> None:
        """Refuse a missing package, too many features, and a model whose gradients it cannot take."""
        require_extra("trak", "peers")
        check_functional(planned, self._k, self._lambda_reg, self._parameters, "traker")

    def scores(self, trained: Sequence[Trained]) -> Float[np.ndarray, "n m"]:
        """Featurize by each checkpoint, invert, and score by each checkpoint.

        Raises:
            ConfigError: The package is missing, or without a ridge there are too many features.
            NumericalError: A Gram matrix has no inverse.
            SketchError: The model cannot be run under ``torch.func.vmap``.
        """
        trak = import_extra("trak", "peers")
        first = trained[0]
        found = sizes(first, self._k, self._lambda_reg, self._parameters, self._batch_size, "traker")
        output = ModelOutput(Functional(first.task, tuple(first.train)))
        with TemporaryDirectory(prefix="traker-") as folder, library("traker"):
            traker = trak.TRAKer(
                # A copy, since it loads every checkpoint into it.
                model=copy.deepcopy(first.model),
                task=output,
                train_set_size=len(next(iter(first.train.values()))),
                save_dir=folder,
                device=first.device,
                projector=self._make_projector(first, found),
                proj_dim=self._k,
                logging_level="WARNING",
                use_half_precision=self._half_precision,
                projector_seed=library_seed(first, "traker"),
                grad_wrt=_subset(first.model, found),
                lambda_reg=self._lambda_reg,
            )
            _require_own_kernel(traker, first.device, self._projector)
            return _run(traker, trained, output.functional, found.batch)

    def _make_projector(self, trained: Trained, found: Sizes) -> Any:
        if self._projector == "default":
            return None
        projectors = import_extra("trak.projectors", "peers")
        return projectors.BasicProjector(
            grad_dim=found.entries,
            proj_dim=self._k,
            seed=library_seed(trained, "traker"),
            proj_type=projectors.ProjectionType.normal,
            device=trained.device,
            dtype=torch.float16 if self._half_precision else torch.float32,
        )


class ModelOutput:
    """A task with the two methods of traker's `AbstractModelOutput`.

    Args:
        functional: f and Q.
    """

    def __init__(self, functional: Functional):
        self.functional = functional

    def get_output(self, model: nn.Module, weights: Any, buffers: Any, *example: Tensor) -> Float[Tensor, ""]:
        """The output f of one example."""
        return self.functional.output(model, (weights, buffers), example)

    @torch.no_grad()
    def get_out_to_loss_grad(
        self, model: nn.Module, weights: Any, buffers: Any, batch: Sequence[Tensor]
    ) -> Float[Tensor, "batch 1"]:
        """Q of a batch."""
        return self.functional.loss_gradients(model, (weights, buffers), tuple(batch)).unsqueeze(-1)


def _run(traker: Any, trained: Sequence[Trained], functional: Functional, size: int) -> Float[np.ndarray, "n m"]:
    for one in trained:
        functional.task = one.task
        traker.load_checkpoint(one.model.state_dict(), model_id=one.number)
        for batch in batches(one.train, size):
            traker.featurize(batch=batch, num_samples=len(batch[0]))
    traker.finalize_features()
    _renew_matrix(traker.projector)
    functional.fields = tuple(trained[0].targets)
    for one in trained:
        functional.task = one.task
        count = len(next(iter(one.targets.values())))
        traker.start_scoring_checkpoint(EXPERIMENT, one.model.state_dict(), one.number, num_targets=count)
        for batch in batches(one.targets, size):
            traker.score(batch=batch, num_samples=len(batch[0]))
    # A copy, as its array is a file of the folder.
    return np.array(traker.finalize_scores(EXPERIMENT), dtype=np.float32)


def _renew_matrix(projector: Any) -> None:
    # finalize_features frees the matrix; where it is a single block (k <= 100), traker 0.3.2 draws it again for another
    # checkpoint than the last, but for the same one fails.
    if getattr(projector, "proj_matrix_available", True) is False and projector.num_blocks == 1:
        projector.generate_sketch_matrix(projector.generator_states[0])


def _subset(model: nn.Module, found: Sizes) -> list[str] | None:
    names = [name for name, _ in model.named_parameters()]
    return None if names == list(found.parameters) else list(found.parameters)


def _require_own_kernel(traker: Any, device: str, projector: str) -> None:
    # It would go on with a slower projection, and only log that it did.
    if projector == "default" and device != "cpu" and type(traker.projector).__name__ == "BasicProjector":
        raise ConfigError(
            f"traker cannot use its CUDA projector on runtime.device={device} with k={traker.proj_dim}: it needs the "
            "package fast_jl (trakflow's extra fast, and a CUDA toolchain) and k a multiple of 512. Or set "
            "method.traker.make.projector=basic, which is slower."
        )
