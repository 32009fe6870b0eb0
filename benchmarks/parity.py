"""traker and trakflow side by side: the same checkpoints, the same loop, one process.

For each data set, with no projection and with k features: correlation of the scores, LDS of both on the same
retrained models, seconds of both. Writes `results/benchmarks/parity.csv`.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from trak import TRAKer as PapersTRAKer
from trak.projectors import BasicProjector, NoOpProjector, ProjectionType

from measure import machine, versions
from trakflow import TRAKer
from trakflow.allocator import keep_freed_memory
from trakflow.config.compose import compose_config
from trakflow.config.training import Training
from trakflow.data import cifar10, digits
from trakflow.data.examples import Examples
from trakflow.evaluation.lds import lds_interval, noise_ceiling, predicted_outputs
from trakflow.models.mlp import MLP
from trakflow.ranks import rank_correlations
from trakflow.seeds import derive_seed
from trakflow.sketches.gradients import GradientSketch
from trakflow.sketches.identity import Identity
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.store.files import atomic_path
from trakflow.subsets import random_subset, random_subsets
from trakflow.tasks.classification import Classification
from trakflow.training.ensemble import ensemble_outputs, train_ensemble

SEED, BATCH = 0, 64
OUT = "results/benchmarks/parity.csv"


@dataclass(frozen=True)
class Problem:
    """Data, model and recipe."""

    name: str
    factory: Callable[[], nn.Module]
    train: dict[str, Tensor]
    targets: dict[str, Tensor]
    training: Training


def small_cnn() -> nn.Module:
    """Three convolutions and a linear layer: 8,918 parameters, images (batch, 3, 32, 32), two classes."""
    layers: list[nn.Module] = []
    for incoming, outgoing in ((3, 10), (10, 20), (20, 32)):
        layers += [nn.Conv2d(incoming, outgoing, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, 2))


def _tensors(examples: Examples) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in examples.arrays.items()}


def digits_problem(targets: int, widths: list[int]) -> Problem:
    """The default experiment of the workflow, or its model with other widths."""
    config = compose_config("digits", [])
    train, held_out = _tensors(digits.train()), _tensors(digits.targets(targets))
    return Problem("digits, MLP", lambda: MLP(64, widths, 10), train, held_out, config.training)


def cifar2_problem(targets: int) -> Problem:
    """Cats and dogs of CIFAR-10."""
    train, held_out = (
        _tensors(part(size, classes=[3, 5])) for part, size in ((cifar10.train, 2000), (cifar10.targets, targets))
    )
    training = Training(epochs=12, batch_size=50, learning_rate=0.02, weight_decay=0.003)
    return Problem("CIFAR-10 cats and dogs, CNN", small_cnn, train, held_out, training)


PROBLEMS = ("digits", "cifar2")


@dataclass(frozen=True)
class Truth:
    """Checkpoints, and what models retrained on subsets say of the targets."""

    checkpoints: list[dict[str, Tensor]]
    masks: np.ndarray
    outputs: np.ndarray


def make_truth(problem: Problem, checkpoints: int, subsets: int, retrains: int) -> Truth:
    """Train checkpoints on random halves, and models on the halves of the evaluation."""
    task, size = Classification(), len(problem.train["labels"])
    masks = np.stack([random_subset(size, 0.5, SEED, "checkpoint", number) for number in range(checkpoints)])
    seeds = [derive_seed(SEED, "checkpoint", number) for number in range(checkpoints)]
    state = train_ensemble(problem.factory, task, problem.train, masks, problem.training, seeds)
    states = [{name: value[number].clone() for name, value in state.items()} for number in range(checkpoints)]
    evaluated = random_subsets(size, 0.5, SEED, "evaluation", range(subsets))
    outputs = []
    for retrain in range(retrains):
        seeds = [derive_seed(SEED, "retrain", retrain, row) for row in range(subsets)]
        models = train_ensemble(problem.factory, task, problem.train, evaluated, problem.training, seeds)
        outputs.append(ensemble_outputs(problem.factory, task, models, problem.targets, 256).numpy())
    return Truth(states, evaluated, np.stack(outputs))


@dataclass(frozen=True)
class Attribution:
    """Scores (n x m), and seconds by phase."""

    scores: np.ndarray
    seconds: dict[str, float]


def attribute(
    library: Any, problem: Problem, states: Sequence[dict[str, Tensor]], device: str, **arguments: Any
) -> Attribution:
    """Run the loop of either library's documentation."""
    train, targets = (
        [data["inputs"].to(device), data["labels"].to(device)] for data in (problem.train, problem.targets)
    )
    n, m = len(train[1]), len(targets[1])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        began = time.perf_counter()
        traker = library(
            model=problem.factory().to(device),
            task="image_classification",
            train_set_size=n,
            save_dir=folder,
            device=device,
            use_half_precision=False,
            logging_level=40,
            **arguments,
        )
        for model_id, state in enumerate(states):
            traker.load_checkpoint(state, model_id=model_id)
            for start in range(0, n, BATCH):
                batch = [array[start : start + BATCH] for array in train]
                traker.featurize(batch=batch, num_samples=len(batch[0]))
        featurized = time.perf_counter()
        traker.finalize_features()
        finalized = time.perf_counter()
        for model_id, state in enumerate(states):
            traker.start_scoring_checkpoint(exp_name="test", checkpoint=state, model_id=model_id, num_targets=m)
            for start in range(0, m, BATCH):
                batch = [array[start : start + BATCH] for array in targets]
                traker.score(batch=batch, num_samples=len(batch[0]))
        scores = np.array(traker.finalize_scores(exp_name="test"), dtype=np.float32)
        scored = time.perf_counter()  # with the scores in main memory, so that no device still computes
    phases = {"featurize": featurized - began, "finalize": finalized - featurized, "score": scored - finalized}
    return Attribution(scores, phases)


def mean_diagonal(problem: Problem, states: Sequence[dict[str, Tensor]]) -> float:
    """Mean diagonal entry of the unprojected Gram matrix in traker's unit, over min(n, p): a relative ridge of 1."""
    total = 0.0
    for state in states:
        model = problem.factory()
        model.load_state_dict(state)
        parameters = differentiated_parameters(model)
        sizes = {name: value.numel() for name, value in parameters.items()}
        sketch = GradientSketch(model, Classification(), Identity(sizes), parameters)
        n = len(problem.train["labels"])
        for start in range(0, n, 256):
            batch = {name: array[start : start + 256] for name, array in problem.train.items()}
            total += float(sketch(batch).features.double().square().sum())
    entries = sum(sizes.values())
    return total / len(states) / entries / min(n, entries)


def _cases(parameters: int, k: int, ridge: float, device: str) -> list[tuple[str, str, Any, dict[str, Any]]]:
    """(projection, library, class, arguments); a library's matrix is made anew for each run, as it remembers things."""

    def basic() -> BasicProjector:
        return BasicProjector(parameters, k, SEED, ProjectionType.normal, device)

    none = {"projector": lambda: NoOpProjector(device=device), "lambda_reg": lambda: ridge}
    own = {"projector": lambda: "identity", "lambda_reg": lambda: ridge}
    cases = [("none", "traker", PapersTRAKer, none), ("none", "trakflow", TRAKer, own)]
    # Its matrices have entries of variance 1, so that k times the ridge is the same to them.
    for given in (0.0, ridge * k):
        arguments = {"projector": basic, "lambda_reg": lambda given=given: given}
        label = f"traker's matrix, k={k}, lambda {given:.3g}"
        cases += [(label, "traker", PapersTRAKer, arguments), (label, "trakflow", TRAKer, arguments)]
    if device != "cpu":
        # On a CPU it takes the matrix above; on a GPU the CUDA kernel, if it is installed.
        own = {"proj_dim": lambda: k, "lambda_reg": lambda: 0.0}
        cases.append((f"traker's own choice, k={k}, lambda 0", "traker", PapersTRAKer, own))
    cases.append((f"tensor_sketch, k={k}, default ridge", "trakflow", TRAKer, {"proj_dim": lambda: k}))
    return cases


def run(problem: Problem, truth: Truth, k: int, repeats: int, device: str) -> list[dict[str, Any]]:
    """Run every case, and compare each with traker's scores of its projection."""
    parameters = sum(value.numel() for value in problem.factory().parameters())
    ridge = mean_diagonal(problem, truth.checkpoints)
    actual, ceiling = truth.outputs.mean(axis=0), noise_ceiling(truth.outputs) if len(truth.outputs) > 1 else np.nan
    rows: list[dict[str, Any]] = []
    first: dict[str, np.ndarray] = {}
    for projection, library, cls, arguments in _cases(parameters, k, ridge, device):
        runs = [
            attribute(cls, problem, truth.checkpoints, device, **{name: make() for name, make in arguments.items()})
            # Both are short on a GPU, and what a device does once and never again is nothing to either.
            for _ in range(repeats if library == "trakflow" or device != "cpu" else 1)
        ]
        scores = runs[0].scores
        # Matrices that only one of them has are compared with the scores that no projection disturbs.
        alone = projection.startswith(("tensor_sketch", "traker's own"))
        reference = first["none"] if alone else first.setdefault(projection, scores)
        predicted = predicted_outputs(scores, truth.masks)
        estimate = lds_interval(predicted, actual, 1000, 0.95, SEED)
        pearson = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores.T, reference.T, strict=True)]
        phases = {f"{name}_seconds": float(np.median([run.seconds[name] for run in runs])) for name in runs[0].seconds}
        rows.append(
            {
                "problem": problem.name,
                "projection": projection,
                "library": library,
                "checkpoints": len(truth.checkpoints),
                "pearson_with_traker": float(np.mean(pearson)),
                "spearman_with_traker": float(rank_correlations(scores, reference).mean()),
                "lds": estimate.value,
                "ci_low": estimate.low,
                "ci_high": estimate.high,
                "ceiling": ceiling,
                "subsets": len(truth.masks),
                "retrains": len(truth.outputs),
                **phases,
                "seconds": float(np.median([sum(run.seconds.values()) for run in runs])),
                "repeats": len(runs),
                "threads": torch.get_num_threads(),
                "device": device,
                "machine": machine(device),
                "versions": versions("trakflow", "traker", "torch", "numpy"),
            }
        )
        print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['problem']:28} {row['projection']:42} {row['library']:9} r {row['pearson_with_traker']:.4f}  LDS "
        f"{row['lds']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]  {row['seconds']:.2f} s "
        f"(featurize {row['featurize_seconds']:.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--k", type=int, default=512)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--retrains", type=int, default=3)
    parser.add_argument("--targets", type=int, default=300)
    parser.add_argument("--widths", nargs="+", type=int, default=[64, 32], help="of the MLP of digits")
    parser.add_argument("--repeats", type=int, default=3, help="of trakflow; traker runs once on a CPU")
    parser.add_argument("--device", default="cpu", help="of both libraries; checkpoints are trained on the CPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", default=OUT)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    keep_freed_memory()
    rows = []
    for name in chosen.problems:
        problem = digits_problem(chosen.targets, chosen.widths) if name == "digits" else cifar2_problem(chosen.targets)
        truth = make_truth(problem, chosen.checkpoints, chosen.subsets, chosen.retrains)
        rows += run(problem, truth, chosen.k, chosen.repeats, chosen.device)
    with atomic_path(Path(chosen.out)) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
