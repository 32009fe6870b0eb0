"""Stages finalize, choose_ridge and score."""

import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trakflow.config.schema import Config
from trakflow.config.stages import VERSIONS
from trakflow.errors import NumericalError, StoreError
from trakflow.features import FeatureSet
from trakflow.kernel import Kernel, factorize, gram, outer_gram
from trakflow.layout import METHOD, Layout
from trakflow.ridge import self_lds_by_target
from trakflow.scoring import CheckpointParts, score_blocks
from trakflow.stages.common import content, provenance
from trakflow.stages.runner import require
from trakflow.store import ArrayFile, numpy_file, read_json, write_arrays, write_json
from trakflow.topk import TopExamples

DEFAULT_RELATIVE_RIDGE = 1.0


def features_of(config: Config, layout: Layout, checkpoint: int) -> FeatureSet:
    """Open the features of one checkpoint."""
    paths = [layout.features(checkpoint, shard) for shard in range(config.shards)]
    return FeatureSet(paths, weighted=config.solver.weights == "on")


def finalize(config: Config, layout: Layout) -> None:
    """Write the eigendecomposition of one checkpoint's Gram matrix, from partial ones where the shards hold them."""
    checkpoint = require(config.job.checkpoint, "job.checkpoint")
    features = features_of(config, layout, checkpoint)
    _require_nonzero_weights(features)
    if features.k > features.n:
        kernel = factorize(outer_gram(features.rows, features.n), "examples")
    elif all(file.provenance["gram_weights"] == config.solver.weights for file in features.files):
        kernel = factorize(
            sum((torch.from_numpy(file.read("gram")) for file in features.files), torch.zeros(())), "features"
        )
    else:
        kernel = factorize(gram(features.rows(), features.k), "features")
    arrays = {"eigenvalues": kernel.eigenvalues.numpy(), "eigenvectors": kernel.eigenvectors.numpy()}
    facts = {"side": kernel.side, "weights": config.solver.weights, "features": _identity(features)}
    write_arrays(layout.kernel(checkpoint), arrays, provenance(config, "finalize", **facts))


def _require_nonzero_weights(features: FeatureSet) -> None:
    if features.weighted and not any((file.read("curvatures") > 0).any() for file in features.files):
        raise NumericalError(
            "The curvature weight W = d2loss/df2 is zero for every training example, so it cannot weight the Gram "
            "matrix; set solver.weights=off."
        )


def _identity(features: FeatureSet) -> dict[str, Any]:
    return {**features.provenance, "content": [content(file) for file in features.files]}


def load_kernel(layout: Layout, checkpoint: int, features: FeatureSet) -> Kernel:
    """Read a kernel and refuse one that was not made from these features.

    Raises:
        StoreError: The files do not belong together.
    """
    file = ArrayFile(layout.kernel(checkpoint))
    if file.provenance["features"] != _identity(features):
        raise StoreError(
            f"{file.path} was made from other features than those in {features.files[0].path.parent}. Delete it and "
            "run the same command again."
        )
    return Kernel(
        torch.from_numpy(file.read("eigenvalues")), torch.from_numpy(file.read("eigenvectors")), file.provenance["side"]
    )


def load_parts(config: Config, layout: Layout, checkpoint: int, ridge: tuple[float, str] | None) -> CheckpointParts:
    """Read what scoring needs of one checkpoint, checked to belong together.

    Raises:
        StoreError: Features and target features were made by different checkpoints, sketches or seeds.
    """
    features = features_of(config, layout, checkpoint)
    targets = ArrayFile(layout.target_features(checkpoint))
    for key in ("checkpoint_content", "k"):
        if targets.provenance[key] != features.provenance[key]:
            raise StoreError(
                f"{targets.path} and {features.files[0].path} do not belong together: '{key}' is "
                f"{targets.provenance[key]!r} in the former and "
                f"{features.provenance[key]!r} in the latter. Delete the one that is out of date and run the same "
                "command again."
            )
    kernel = load_kernel(layout, checkpoint, features)
    absolute = kernel.ridge(*ridge) if ridge is not None else float("nan")
    return CheckpointParts(features, kernel, torch.from_numpy(targets.read("features")), absolute)


def choose_ridge(config: Config, layout: Layout) -> None:
    """Write the ridge for the first `job.count` checkpoints, and how it was come by."""
    count = require(config.job.count, "job.count")
    solver = config.solver
    if solver.ridge != "auto":
        chosen: dict[str, Any] = {"rule": "given", "value": solver.ridge, "unit": solver.ridge_unit}
    elif count == 1 or not config.checkpoints.on_subsets:
        chosen = {"rule": "mean diagonal of the Gram matrix", "value": DEFAULT_RELATIVE_RIDGE, "unit": "relative"}
    else:
        chosen = _by_self_lds(config, layout, count)
    write_json(layout.ridge(count), {**chosen, "checkpoints": count})


def _by_self_lds(config: Config, layout: Layout, count: int) -> dict[str, Any]:
    grid = config.solver.ridge_grid
    ridges = np.geomspace(grid.low, grid.high, grid.points)
    numbers = range(count)
    by_target = self_lds_by_target(
        [partial(load_parts, config, layout, number, None) for number in numbers],
        np.stack([np.load(layout.checkpoint_mask(number)) for number in numbers]),
        np.stack([features_of(config, layout, number).loss_gradients() for number in numbers]),
        np.stack([ArrayFile(layout.target_features(number)).read("outputs") for number in numbers]),
        ridges.tolist(),
    )
    curve = by_target.mean(axis=1)
    # Over targets; what more checkpoints would change is not in it.
    errors = (
        by_target.std(axis=1, ddof=1) / np.sqrt(by_target.shape[1]) if by_target.shape[1] > 1 else np.zeros_like(curve)
    )
    best = int(np.argmax(curve))
    return {
        "rule": "self-LDS",
        "value": float(ridges[best]),
        "unit": "relative",
        "self_lds": float(curve[best]),
        "at_edge_of_grid": best in (0, len(ridges) - 1),
        "curve": {"ridge": ridges.tolist(), "self_lds": curve.tolist(), "standard_error": errors.tolist()},
    }


def score(config: Config, layout: Layout) -> None:
    """Write the scores of the first `job.count` checkpoints; for all (the default) also provenance and top examples."""
    total = config.checkpoints.total
    count = config.job.count or total
    ridge = read_json(layout.ridge(count))
    loaders = [partial(load_parts, config, layout, number, (ridge["value"], ridge["unit"])) for number in range(count)]
    n, m = config.data.train_size, config.data.target_count
    blocks = score_blocks(loaders, n, m, config.runtime.memory_mb * 2**20 // 4)
    top = TopExamples(config.scores.topk)
    path = layout.score_array(count, total)
    if config.scores.dense or count < total:
        with numpy_file(path, (n, m), np.float32) as array:
            for first, block in blocks:
                array[:, first : first + block.shape[1]] = block
                top.add(first, block)
    else:
        for first, block in blocks:
            top.add(first, block)
    if count == total:
        top.write(layout)
        write_json(layout.score_provenance, _score_provenance(config, layout, ridge))


def _score_provenance(config: Config, layout: Layout, ridge: dict[str, Any]) -> dict[str, Any]:
    checkpoints = []
    for number in range(config.checkpoints.total):
        parts = load_parts(config, layout, number, (ridge["value"], ridge["unit"]))
        checkpoints.append(
            {
                "checkpoint": number,
                "ridge": parts.ridge,
                "gram_mean_diagonal": parts.kernel.mean_diagonal,
                "gram_side": parts.kernel.side,
                "content": parts.features.provenance["checkpoint_content"],
            }
        )
    return {
        "method": METHOD,
        "config": config.model_dump(mode="json", exclude={"job", "runtime", "figures", "evaluation"}),
        "git_sha": _git_sha(),
        "versions": _versions(),
        "stages": VERSIONS,
        "seed": config.seed,
        "ridge": ridge,
        "checkpoints": checkpoints,
    }


def _git_sha() -> str | None:
    """Return the commit of this checkout of trakflow, or None where it is no git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version()} | {
        name: version(name) for name in ("trakflow", "torch", "numpy", "hydra-core")
    }
