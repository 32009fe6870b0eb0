"""Stage variant: an experiment with some settings changed, whole in one job, for the paper's figures."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trakflow.config.schema import Config
from trakflow.evaluation.costs import piece_of, piece_of_checkpoint
from trakflow.layout import Layout
from trakflow.progress import progress
from trakflow.scoring import score_blocks
from trakflow.stages.attribute import choose_ridge, features_of, finalize, load_parts, score
from trakflow.stages.checkpoints import train_checkpoint
from trakflow.stages.evaluate import evaluation_data, lds_columns, write_table
from trakflow.stages.featurize import featurize, featurize_targets
from trakflow.stages.timing import timed
from trakflow.store.files import read_facts

# Of the table of LDS against the ridge, which has no rows where no figure shows it.
CURVE = ("ridge", "lds", "ci_low", "ci_high", "subsets", "retrains")


def variant(config: Config, layout: Layout) -> None:
    """Write a variant's LDS for each number of its checkpoints, and for all of them at each of `paper.ridges`.

    All in one job, and what lies between is removed: the features of all variants would fill a disk. How long its
    pieces took is in the log.
    """
    with _work_folder(layout) as folder:
        inner = replace(layout, root=str(folder))
        if config.job.own_from != "scores":
            for checkpoint in progress(range(config.checkpoints.total), "checkpoints"):
                _checkpoint(_with_job(config, checkpoint=checkpoint), inner, checkpoint)
        rows, curve = _evaluated(config, inner)
    write_table(layout.lds, rows)
    write_table(layout.ridge_curve, curve, CURVE)


@contextmanager
def _work_folder(layout: Layout) -> Iterator[Path]:
    # Of one name, so that what a killed job left there goes when it is run again.
    folder = Path(layout.root) / ".work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _checkpoint(config: Config, layout: Layout, checkpoint: int) -> None:
    if config.job.own_from == "checkpoints":
        train_checkpoint(config, layout)
    for _ in range(_repeats(config)):
        with timed(piece_of_checkpoint(checkpoint)):
            if config.job.own_from != "kernels":
                _featurize(config, layout)
            finalize(config, layout)


def _featurize(config: Config, layout: Layout) -> None:
    for shard in range(config.shards):
        featurize(_with_job(config, shard=shard), layout)
    featurize_targets(config, layout)


def _repeats(config: Config) -> int:
    return config.runtime.repeats if config.job.timed else 1


def _with_job(config: Config, **changes: int) -> Config:
    return config.model_copy(update={"job": config.job.model_copy(update=changes)})


def _evaluated(config: Config, layout: Layout) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    masks, outputs = evaluation_data(config, layout)
    total = config.checkpoints.total
    rows = []
    for count in config.counts_evaluated:
        part = _with_job(config, count=count)
        for _ in range(_repeats(config)):
            with timed(piece_of(count)):
                choose_ridge(part, layout)
                score(part, layout)
        ridge, k = read_facts(layout.ridge(count), "value")["value"], features_of(config, layout, 0).k
        scores = np.load(layout.score_array(count, total))
        rows.append({"checkpoints": count, "ridge": ridge, "k": k} | lds_columns(config, scores, masks, outputs))
    curve = [
        {"ridge": value, **lds_columns(config, scores, masks, outputs)}
        for value, scores in _scores_by_ridge(config, layout)
    ]
    return rows, curve


def _scores_by_ridge(config: Config, layout: Layout) -> Iterator[tuple[float, np.ndarray]]:
    if config.paper is None or config.paper.ridges is None:
        return
    grid, total = config.paper.ridges, config.checkpoints.total
    n, m, k = config.data.train_size, config.data.target_count, features_of(config, layout, 0).k
    for value in np.geomspace(grid.low, grid.high, grid.points):
        scores = np.empty((n, m), dtype=np.float32)
        ridge = (float(value), "relative")
        loaders = [partial(load_parts, config, layout, checkpoint, ridge) for checkpoint in range(total)]
        for row, target, block in score_blocks(loaders, n, m, k, config.runtime.memory_mb * 2**20 // 8):
            scores[row : row + len(block), target : target + block.shape[1]] = block
        yield float(value), scores
