"""Contrast of images and texts through the stages."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from conftest import Experiment
from pairs import OVERRIDES, PIXELS, VOCABULARY
from peer_formulas import RIDGES, formula
from trakflow.config.compose import compose_config
from trakflow.errors import StoreError
from trakflow.models.image_text import ImageText
from trakflow.stages.attribute import load_parts
from trakflow.stages.evaluate import evaluate, subsets
from trakflow.stages.featurize import featurize, featurize_targets
from trakflow.stages.methods import attribute_checkpoint, attribute_checkpoints
from trakflow.stages.prepare import prepare_train
from trakflow.stages.retrain import retrain, retrained_outputs
from trakflow.store.array_file import ArrayFile
from trakflow.tasks.clip import CLIP
from trakflow.tasks.preparation import prepared, reference_rows

SMALL = (
    *OVERRIDES,
    "model.embedding=6",
    "model.image_widths=[8]",
    "model.text_widths=[7]",
    "model.word=5",
    "task.simulated_batch_size=20",
    "training.epochs=3",
    "training.batch_size=16",
    "checkpoints.count=3",
    "sketch.k=16",
    "evaluation.subsets=6",
    "evaluation.retrains=2",
    "evaluation.models_per_batch=6",
    "evaluation.checkpoint_counts=[1]",
    "evaluation.bootstrap=100",
    "scores.topk=5",
)


class Pairs(Experiment):
    def configure(self, *overrides):
        self.config = compose_config("fashion_clip", [*SMALL, *overrides])
        self.checkpoints = range(self.config.checkpoints.total)
        return self


@pytest.fixture
def experiment(tmp_path):
    return lambda *overrides, name="results": Pairs(tmp_path / name, *overrides)


def test_the_stages_run_from_beginning_to_end_and_score(experiment):
    run = experiment().prepare().train().featurize().solve()
    run.run(subsets, batch=0)
    for number in range(2):
        run.run(retrain, retrain=number, batch=0)
        run.run(retrained_outputs, retrain=number, batch=0)
    run.run(evaluate)
    scores = run.scores()
    assert scores.shape == (60, 7)
    assert np.isfinite(scores).all()
    assert scores.std() > 0


def test_features_and_outputs_depend_on_no_shards_and_no_batches(experiment):
    runs = [
        experiment(f"shards={shards}", f"runtime.batch_size={size}", name=f"{shards}")
        for shards, size in ((1, "auto"), (4, 7))
    ]
    found = []
    for run in runs:
        run.prepare().train().featurize()
        shards = [load_file(run.layout.features(0, shard)) for shard in range(run.config.shards)]
        found.append({name: np.concatenate([shard[name] for shard in shards]) for name in ("features", "outputs")})
    for one, other in itertools.pairwise(found):
        for name, value in one.items():
            np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-5)


def test_outputs_of_targets_and_of_retrained_models_are_f_with_the_references_of_the_seed(experiment):
    run = experiment().prepare().train()
    run.run(featurize_targets, checkpoint=1)
    train, targets = (
        {name: torch.from_numpy(ArrayFile(path).read(name)) for name in ("inputs", "tokens")}
        for path in (run.layout.train, run.layout.targets)
    )
    rows = reference_rows(CLIP(20, seed=run.config.seed), 60)
    model = ImageText(PIXELS, VOCABULARY, 6, [8], [7], 5).eval()
    model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in load_file(run.layout.checkpoint(1)).items()}
    )
    task = prepared(CLIP(20), model, {name: value[rows] for name, value in train.items()})
    expected = task.output(task.forward(model, targets), targets).detach()
    found = load_file(run.layout.target_features(1))["outputs"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_targets_compared_with_another_training_set_are_refused(experiment, monkeypatch):
    run = experiment().prepare().train()
    run.run(featurize_targets, checkpoint=0)
    # The training set changes, and with it the features, but not the targets' features.
    run.configure("data.train._target_=pairs.targets").run(prepare_train)
    run.run(featurize, checkpoint=0, shard=0)
    with pytest.raises(StoreError, match="comparing with other training examples"):
        load_parts(run.config, run.layout, 0, None)


def test_other_methods_compare_with_the_same_references(experiment):
    tracin = ("methods=[trak,tracin]", "method.tracin.make.learning_rates=1.0")
    run = experiment("sketch=identity", "sketch.k=null", "sketch.parameters=null", *tracin)
    run.prepare().train()
    run.run(featurize_targets, checkpoint=1)
    shards = []
    for shard in range(run.config.shards):
        run.run(featurize, checkpoint=1, shard=shard)
        shards.append(load_file(run.layout.features(1, shard)))
    run.run(attribute_checkpoint, method="tracin", checkpoint=1)
    features, gradients = (np.concatenate([part[name] for part in shards]) for name in ("features", "loss_gradients"))
    expected = gradients[:, None] * (features.astype(float) @ load_file(run.layout.target_features(1))["features"].T)
    found = load_file(run.layout.method_part("tracin", 1))["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RIDGES)
def test_libraries_compare_with_the_references_as_each_checkpoint_has_them(experiment, name):
    pytest.importorskip({"traker": "trak", "dattri": "dattri"}[name])
    own = [f"methods=[trak,{name}]", f"method.{name}.make.k=9", f"method.{name}.make.{RIDGES[name]}=0.01"]
    run = experiment("sketch=identity", "sketch.k=null", "sketch.parameters=null", "shards=1", *own).prepare().train()
    parts = []
    for checkpoint in range(2):
        run.run(featurize, checkpoint=checkpoint, shard=0)
        run.run(featurize_targets, checkpoint=checkpoint)
        train, targets = (
            load_file(path) for path in (run.layout.features(checkpoint, 0), run.layout.target_features(checkpoint))
        )
        parts.append((train["features"].astype(float), targets["features"].astype(float), train["loss_gradients"]))
    run.run(attribute_checkpoints, method=name, count=2)
    expected = formula(name, parts, 9, 0.01)
    found = load_file(run.layout.method_count(name, 2))["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=2e-3 * np.abs(expected).max())
