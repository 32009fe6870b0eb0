"""Influence functions by EK-FAC (Grosse et al. 2023, arXiv 2308.03296), computed by the package kronfluence."""

import copy
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from trakflow.errors import ConfigError
from trakflow.extras import import_extra, require_extra
from trakflow.methods.base import CheckpointMethod, Planned, Trained
from trakflow.methods.gradients import one_example
from trakflow.methods.kronfluence_modules import Covered, covered_modules
from trakflow.methods.losses import require_loss_by_example, sampled_loss
from trakflow.seeds import derive_seed
from trakflow.sketches.memory import LARGEST_BATCH, activation_bytes
from trakflow.tasks.base import Batch
from trakflow.tasks.running import floating_type, run_model
from trakflow.training.sgd import select_rows


class EKFAC(CheckpointMethod):
    """-grad loss_i . (n (F + damping I))^-1 grad f(z), with F the eigenvalue-corrected Kronecker approximation.

    F approximates the mean Gauss-Newton matrix of the training loss over the checkpoint's n own examples, a layer at a
    time, for `nn.Linear` and `nn.Conv2d`; other parameters are left out. kronfluence returns the product of the
    gradients of the loss and of f over F; minus that, over n, is the change of f by training on the example.

    Args:
        damping: Added to the eigenvalues of F as it is; None for kronfluence's choice, a tenth of each layer's mean.
        empirical_fisher: Fit F to the gradients of the training loss, and not to those of `sampled_loss`, whose second
            moment is the Gauss-Newton matrix.
    """

    def __init__(self, damping: float | None = None, empirical_fisher: bool = False):
        if damping is not None and not damping > 0:
            raise ConfigError(f"method.ekfac.make.damping={damping} must be positive, or null for a tenth of the mean.")
        self._damping = damping
        self._empirical = empirical_fisher

    def check(self, planned: Planned) -> None:
        """Refuse what `scores` refuses, and a loss whose second derivative cannot be factored."""
        require_extra("kronfluence", "peers")
        trained = planned.trained
        _covered(trained)
        if not self._empirical:
            raw = run_model(trained.task, trained.model, trained.train, floating_type(trained.model))
            with _randomness(trained):
                sampled_loss(trained.task, raw, trained.train)

    def scores(self, trained: Trained) -> Float[Tensor, "n m"]:
        """Fit the factors, and take all products, in a temporary folder that is removed.

        Raises:
            ConfigError: kronfluence is not installed or does not cover the model, the loss is none by example, or the
                factors do not fit the memory.
        """
        import_extra("kronfluence", "peers")
        covered = _covered(trained)
        with TemporaryDirectory(prefix="trakflow-ekfac-") as folder, _randomness(trained), _short_collections():
            products = self._products(trained, covered, folder)
        seen = len(next(iter(trained.train.values()))) if trained.mask is None else int(trained.mask.sum())
        return -products.T / seen

    def _products(self, trained: Trained, covered: Covered, folder: str) -> Float[Tensor, "m n"]:
        analyzer_module, arguments = import_module("kronfluence.analyzer"), import_module("kronfluence.arguments")
        task = _task(trained, covered)
        analyzer = analyzer_module.Analyzer(
            analysis_name="ekfac",
            # Its modules are replaced by kronfluence's.
            model=analyzer_module.prepare_model(_Within(copy.deepcopy(trained.model)), task),
            task=task,
            cpu=torch.device(trained.device).type == "cpu",
            disable_tqdm=not sys.stderr.isatty(),
            output_dir=folder,
        )
        loading = import_module("kronfluence.utils.dataset").DataLoaderKwargs(collate_fn=lambda batch: batch)
        analyzer.set_dataloader_kwargs(loading)
        rows, targets = _batch_sizes(trained, covered)
        everything = np.arange(len(next(iter(trained.train.values()))))
        analyzer.fit_all_factors(
            factors_name="factors",
            dataset=_Examples(trained.train, everything if trained.mask is None else np.flatnonzero(trained.mask)),
            per_device_batch_size=rows,
            factor_args=arguments.FactorArguments(
                strategy="ekfac",
                use_empirical_fisher=self._empirical,
                has_shared_parameters=covered.shared,
                covariance_max_examples=None,
                lambda_max_examples=None,
            ),
        )
        analyzer.compute_pairwise_scores(
            scores_name="scores",
            factors_name="factors",
            query_dataset=_Examples(trained.targets, np.arange(len(next(iter(trained.targets.values()))))),
            train_dataset=_Examples(trained.train, everything),
            per_device_query_batch_size=targets,
            per_device_train_batch_size=rows,
            score_args=arguments.ScoreArguments(damping_factor=self._damping),
        )
        return analyzer.load_pairwise_scores(scores_name="scores")["all_modules"]


class _Within(nn.Module):
    """A model one level down: kronfluence replaces modules in the module around them, which a lone layer lacks."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


class _Examples(Dataset):
    """Rows of the arrays, a batch at a time, as kronfluence's loader asks for them."""

    def __init__(self, arrays: Batch, rows: np.ndarray):
        self._arrays = arrays
        self._rows = torch.from_numpy(rows).to(next(iter(arrays.values())).device)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, positions: list[int]) -> dict[str, Tensor]:
        return select_rows(self._arrays, self._rows[positions])


def _task(trained: Trained, covered: Covered) -> Any:
    dtype = floating_type(trained.model)

    class Measured(import_module("kronfluence.task").Task):  # type: ignore[misc]
        """kronfluence's view of the task: its loss, and f as the measurement; both are summed, as its docs ask."""

        # Without it, kronfluence 1.0.1 scores a module that is called several times by its last call alone
        # (PairwiseScoreTracker); the inherited process changes no gradient.
        enable_post_process_per_sample_gradient = covered.shared

        def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> Tensor:
            raw = run_model(trained.task, model, batch, dtype)
            return (sampled_loss(trained.task, raw, batch) if sample else trained.task.loss(raw, batch)).sum()

        def compute_measurement(self, batch: Any, model: Any) -> Tensor:
            return trained.task.output(run_model(trained.task, model, batch, dtype), batch).sum()

        def get_influence_tracked_modules(self) -> list[str]:
            return [f"model.{name}" if name else "model" for name in covered.names]

        def get_attention_mask(self, batch: Any) -> Tensor | None:
            return batch.get("attention_mask")

    return Measured()


def _batch_sizes(trained: Trained, covered: Covered) -> tuple[int, int]:
    """Training examples at a time, whose gradients by one layer are held, and targets, whose gradients by all are."""
    activations = 2 * activation_bytes(trained.model, trained.task, one_example(trained))
    quarter = trained.memory_bytes // 4
    rows = max(1, min(LARGEST_BATCH, trained.batch_size, quarter // (activations + 8 * covered.entries)))
    # All training examples' gradients are taken anew for each batch of targets, so that these have the larger part.
    return rows, max(1, 3 * quarter // (activations + 12 * covered.entries))


def _covered(trained: Trained) -> Covered:
    """The modules that kronfluence covers, of a task and a model that it can be asked about within the memory."""
    require_loss_by_example(trained, "choose a method that takes no loss, such as influence_function by its output")
    covered = covered_modules(trained)
    if covered.factor_bytes > trained.memory_bytes:
        raise ConfigError(
            f"The factors of {len(covered.names)} layers take {covered.factor_bytes >> 20} MiB, and method ekfac may "
            f"hold {trained.memory_bytes >> 20}; raise runtime.memory_mb."
        )
    return covered


@contextmanager
def _randomness(trained: Trained) -> Iterator[None]:
    """Seed torch's generator, which kronfluence draws labels by, and leave it as it was."""
    device = torch.device(trained.device)
    with (
        torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
        torch.random.fork_rng(devices=[] if device.type == "cpu" else None),
    ):
        torch.manual_seed(derive_seed(trained.seed, "ekfac", trained.number))
        yield


@contextmanager
def _short_collections() -> Iterator[None]:
    """Have garbage collection leave alone what is there now: kronfluence collects ten times, half a second each."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
