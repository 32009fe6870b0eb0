"""Stages finalize, choose_ridge and score."""

import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from trakflow.config.schema import Config
from trakflow.data.groups import Groups, read_groups
from trakflow.errors import DataError, StoreError
from trakflow.evaluation.costs import piece_of
from trakflow.features import FeatureSet
from trakflow.group_scores import columns_within, group_scores_file
from trakflow.kernel_file import make_kernel, read_kernel, write_kernel
from trakflow.layout import TRAK, Layout
from trakflow.ridge import chosen_ridge, self_lds_by_target
from trakflow.scoring import CheckpointParts, score_blocks
from trakflow.stages.provenance import NOT_OF_SCORES, provenance, run_facts
from trakflow.stages.runner import require
from trakflow.stages.timing import timed
from trakflow.store.array_file import ArrayFile, content, require_agreement
from trakflow.store.files import read_facts, write_json
from trakflow.store.numpy_files import WriteBlock, map_numpy, numpy_file
from trakflow.topk import TopExamples

DEFAULT_RELATIVE_RIDGE = 1.0

log = logging.getLogger("trakflow")


def features_of(config: Config, layout: Layout, checkpoint: int) -> FeatureSet:
    """Open the features of one checkpoint."""
    paths = [layout.features(checkpoint, shard) for shard in range(config.shards)]
    return FeatureSet(paths, weighted=config.solver.weights == "on")


def finalize(config: Config, layout: Layout) -> None:
    """Write the eigendecomposition of one checkpoint's Gram matrix, from partial ones where the shards hold them."""
    checkpoint = require(config.job.checkpoint, "job.checkpoint")
    features = features_of(config, layout, checkpoint)
    write_kernel(layout.kernel(checkpoint), make_kernel(features), features, provenance(config, "finalize"))


def load_parts(config: Config, layout: Layout, checkpoint: int, ridge: tuple[float, str] | None) -> CheckpointParts:
    """Read what scoring needs of one checkpoint, checked to belong together.

    Raises:
        StoreError: Features and target features were made by different checkpoints, sketches or seeds.
    """
    features = features_of(config, layout, checkpoint)
    targets = ArrayFile(layout.target_features(checkpoint))
    require_agreement([features.files[0], targets], ("checkpoint_content", "gradients", "k"))
    for file, data in ((features.files[0], layout.train), (targets, layout.targets)):
        if file.provenance["data_content"] != content(ArrayFile(data)):
            raise StoreError(
                f"{file.path} was made from other data than {data}. Delete it and run the same command again."
            )
    of_targets = targets.provenance.get("references_content")
    if of_targets not in (None, features.provenance["data_content"]):
        raise StoreError(
            f"{targets.path} was made by comparing with other training examples than those of {layout.train}. Delete "
            "it and run the same command again."
        )
    kernel = read_kernel(layout.kernel(checkpoint), features)
    absolute = kernel.ridge(*ridge) if ridge is not None else float("nan")
    return CheckpointParts(features, kernel, torch.from_numpy(targets.read("features")), absolute)


def choose_ridge(config: Config, layout: Layout) -> None:
    """Write the ridge for the first `job.count` checkpoints (all by default), and how it was come by."""
    count = config.job.count or config.checkpoints.total
    solver = config.solver
    if solver.ridge != "auto":
        chosen: dict[str, Any] = {"rule": "given", "value": solver.ridge, "unit": solver.ridge_unit}
    elif not config.checkpoints.on_subsets or _on_one_subset(config, layout, count):
        chosen = {"rule": "mean diagonal of the Gram matrix", "value": DEFAULT_RELATIVE_RIDGE, "unit": "relative"}
    else:
        chosen = by_self_lds(config, layout, count)
    write_json(layout.ridge(count), {**chosen, "checkpoints": count})


def _masks(layout: Layout, count: int) -> Bool[np.ndarray, "c n"]:
    return np.stack([map_numpy(layout.checkpoint_mask(number)) for number in range(count)])


def _on_one_subset(config: Config, layout: Layout, count: int) -> bool:
    """Whether the first checkpoints share their training examples: one alone, or epochs of one run.

    Raises:
        DataError: All checkpoints of the experiment do.
    """
    masks = _masks(layout, count)
    if (masks != masks[0]).any():
        return False
    if 1 < count == config.checkpoints.total:
        raise DataError(
            "All checkpoints were trained on the same examples, so they say nothing about the ridge. Set "
            "checkpoints.masks=null or solver.ridge to a number."
        )
    return True


def by_self_lds(config: Config, layout: Layout, count: int) -> dict[str, Any]:
    """Return the ridge that the first `count` checkpoints choose by the self-LDS, and its curve."""
    grid = config.solver.ridge_grid
    ridges = np.geomspace(grid.low, grid.high, grid.points)
    numbers = range(count)
    masks = _masks(layout, count)
    by_target = self_lds_by_target(
        [partial(load_parts, config, layout, number, None) for number in numbers],
        masks,
        np.stack([features_of(config, layout, number).loss_gradients() for number in numbers]),
        np.stack([ArrayFile(layout.target_features(number)).read("outputs") for number in numbers]),
        ridges.tolist(),
    )
    curve = by_target.mean(axis=1)
    # Over targets; what more checkpoints would change is not in it.
    errors = (
        by_target.std(axis=1, ddof=1) / np.sqrt(by_target.shape[1]) if by_target.shape[1] > 1 else np.zeros_like(curve)
    )
    best = chosen_ridge(curve, ridges, len(np.unique(masks, axis=0)))
    if best in (0, len(curve) - 1):
        log.warning(
            "The ridge that the self-LDS of %d checkpoints chose is at the edge of the grid, %g; widen "
            "solver.ridge_grid and look again.",
            count,
            ridges[best],
        )
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
    ridge = read_facts(layout.ridge(count), "value", "unit")
    loaders = [partial(load_parts, config, layout, number, (ridge["value"], ridge["unit"])) for number in range(count)]
    n, m = config.data.train_size, config.data.target_count
    # An eighth for blocks of scores and one for the targets' part of all checkpoints; the rest is for one kernel.
    share = config.runtime.memory_mb * 2**20 // 8
    # And one for sums over groups.
    groups = _groups(config, layout) if count == total else None
    most = None if groups is None else columns_within(groups, share)
    top = TopExamples(config.scores.topk)
    path = layout.score_array(count, total)
    with contextlib.ExitStack() as stack:
        takers: list[WriteBlock] = [top.add] if count == total else []
        if config.scores.dense:
            takers.append(stack.enter_context(numpy_file(path, (n, m), np.float32)))
        if groups is not None:
            takers.append(stack.enter_context(group_scores_file(groups, layout, m, config.scores.topk)))
        for row, target, block in score_blocks(loaders, n, m, features_of(config, layout, 0).k, share, most):
            for take in takers:
                take(row, target, block)
    _remove_old(config, layout, path)
    if count == total:
        top.write(layout, layout.score_topk)
        write_json(layout.score_provenance, _score_provenance(config, layout, ridge))


def _remove_old(config: Config, layout: Layout, path: str) -> None:
    """Remove what an earlier run wrote and this one leaves out: it would contradict the provenance."""
    old = [] if config.scores.dense else [path]
    if config.scores.groups is None:
        old += [layout.group_scores, layout.group_table, layout.group_topk]
    for left_out in old:
        Path(left_out).unlink(missing_ok=True)


def _groups(config: Config, layout: Layout) -> Groups | None:
    kind = config.scores.groups
    return None if kind is None else read_groups(ArrayFile(layout.train), kind, config.data.class_names)


def score_partial(config: Config, layout: Layout) -> None:
    """Write ridge and scores of each number of checkpoints that is evaluated beside all of them."""
    for count in config.partial_counts:
        part = config.model_copy(update={"job": config.job.model_copy(update={"count": count})})
        with timed(piece_of(count)):
            choose_ridge(part, layout)
            score(part, layout)


def _score_provenance(config: Config, layout: Layout, ridge: dict[str, Any]) -> dict[str, Any]:
    checkpoints = [_checkpoint_provenance(config, layout, number, ridge) for number in range(config.checkpoints.total)]
    return {"method": TRAK, **run_facts(config, *NOT_OF_SCORES), "ridge": ridge, "checkpoints": checkpoints}


def _checkpoint_provenance(config: Config, layout: Layout, number: int, ridge: dict[str, Any]) -> dict[str, Any]:
    parts = load_parts(config, layout, number, (ridge["value"], ridge["unit"]))
    return {
        "checkpoint": number,
        "ridge": parts.ridge,
        "gram_mean_diagonal": parts.kernel.mean_diagonal,
        "gram_side": parts.kernel.side,
        "content": parts.features.provenance["checkpoint_content"],
    }
