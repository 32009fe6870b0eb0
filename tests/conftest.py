"""Seeded helpers that several tests need: feature files, and a small experiment, stage by stage or by Snakemake."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from run_snakemake import TINY, overrides, snakemake

from trakflow.config.compose import compose_config
from trakflow.config.running import Job
from trakflow.layout import Layout
from trakflow.stages.attribute import choose_ridge, finalize, score
from trakflow.stages.checkpoints import train_checkpoint
from trakflow.stages.featurize import featurize, featurize_targets
from trakflow.stages.prepare import prepare_targets, prepare_train
from trakflow.store.array_file import write_arrays

torch.set_num_threads(1)

# Three checkpoints on halves of 60 digits, an MLP of one hidden layer, seven targets: well under a second.
SMALL = (
    "data.train_size=60",
    "shards=2",
    "data.target_count=7",
    "model.widths=[8]",
    "training.epochs=10",
    "checkpoints.count=3",
    "sketch.k=16",
    "evaluation.subsets=6",
    "evaluation.retrains=2",
    "evaluation.models_per_batch=4",
    "evaluation.checkpoint_counts=[1,2]",
    "evaluation.bootstrap=100",
    "scores.topk=5",
)


class Experiment:
    """An experiment in a folder, whose stages are called as the rules would call them."""

    def __init__(self, folder, *overrides, base="digits", small=SMALL):
        self.layout = Layout(str(folder))
        self.base, self.small = base, small
        self.configure(*overrides)

    def configure(self, *overrides):
        self.config = compose_config(self.base, [*self.small, *overrides])
        self.checkpoints = range(self.config.checkpoints.total)
        return self

    def run(self, stage, **job):
        stage(self.config.model_copy(update={"job": Job(**job)}), self.layout)

    def prepare(self):
        self.run(prepare_train)
        self.run(prepare_targets)
        return self

    def train(self):
        for checkpoint in self.checkpoints:
            self.run(train_checkpoint, checkpoint=checkpoint)
        return self

    def featurize(self):
        for checkpoint in self.checkpoints:
            for shard in range(self.config.shards):
                self.run(featurize, checkpoint=checkpoint, shard=shard)
            self.run(featurize_targets, checkpoint=checkpoint)
        return self

    def solve(self):
        for checkpoint in self.checkpoints:
            self.run(finalize, checkpoint=checkpoint)
        for count in self.config.counts_evaluated:
            self.run(choose_ridge, count=count)
            self.run(score, count=count)
        return self

    def scores(self):
        total = self.config.checkpoints.total
        return np.load(self.layout.score_array(total, total))


@pytest.fixture
def experiment(tmp_path):
    """Make a small experiment, of digits if no other is named, below the test's own folder."""
    return lambda *overrides, name="results", **base: Experiment(tmp_path / name, *overrides, **base)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Folder of a finished run of the small experiment by Snakemake; not to be written to.

    The first process that needs it makes it, and each has a copy: dry runs write their configuration there.
    """
    shared = tmp_path_factory.getbasetemp() / "finished"
    if worker_id != "master":
        shared = shared.parents[1] / "finished"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            made = tmp_path_factory.mktemp("made")
            report = ["--report", "results/digits/report.html", "--report-after-run"]
            snakemake(made, overrides(TINY), ["--cores", "2", *report])
            made.rename(shared)
    return shutil.copytree(shared, tmp_path_factory.mktemp("finished") / "copy", copy_function=shutil.copy2)


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with its times, to change at will."""
    shutil.copytree(finished, tmp_path / "copy", copy_function=shutil.copy2)
    return tmp_path / "copy"


@pytest.fixture
def write_features(tmp_path):
    """Write Phi, Q and W as the shards of one checkpoint, cut at the given rows."""

    def write(features, loss_gradients, curvatures=None, cuts=(), name="0", **facts):
        paths = []
        edges = [0, *cuts, len(features)]
        for start, stop in itertools.pairwise(edges):
            arrays = {"features": features[start:stop], "loss_gradients": loss_gradients[start:stop]}
            if curvatures is not None:
                arrays["curvatures"] = curvatures[start:stop]
            own = {
                "stage": "featurize",
                "version": 1,
                "settings": "s",
                "checkpoint": name,
                "checkpoint_content": name,
                "data_content": "d",
                "total": len(features),
                "k": features.shape[1],
                "dtype": str(features.dtype),
                "start": start,
                "stop": stop,
                "seconds": 1.5,
            }
            paths.append(tmp_path / "features" / name / f"{start}.safetensors")
            write_arrays(paths[-1], {key: value.astype(value.dtype) for key, value in arrays.items()}, {**own, **facts})
        return paths

    return write
