"""The stages as one pipeline: scores do not depend on how the work is cut, and the self-LDS chooses well."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from trakflow.config.compose import compose_config
from trakflow.config.schema import Config
from trakflow.errors import DataError
from trakflow.evaluation.lds import lds, predicted_outputs
from trakflow.layout import Layout
from trakflow.stages import attribute, checkpoints, evaluate, featurize, prepare, retrain
from trakflow.store.files import read_json

SMALL = [
    "data.train_size=240",
    "shards=2",
    "data.target_count=20",
    "model.widths=[16]",
    "training.epochs=5",
    "sketch.k=64",
    "checkpoints.count=2",
]


def at(config: Config, **job: int) -> Config:
    return config.model_copy(update={"job": config.job.model_copy(update=job)})


def make_checkpoints(config: Config, layout: Layout) -> None:
    prepare.prepare_train(config, layout)
    for number in range(config.checkpoints.total):
        checkpoints.train_checkpoint(at(config, checkpoint=number), layout)
    prepare.prepare_targets(config, layout)


def attribute_all(config: Config, layout: Layout) -> np.ndarray:
    for number in range(config.checkpoints.total):
        for shard in range(config.shards):
            featurize.featurize(at(config, checkpoint=number, shard=shard), layout)
        attribute.finalize(at(config, checkpoint=number), layout)
        featurize.featurize_targets(at(config, checkpoint=number), layout)
    return scores(config, layout)


def scores(config: Config, layout: Layout) -> np.ndarray:
    attribute.choose_ridge(at(config, count=config.checkpoints.total), layout)
    attribute.score(config, layout)
    return np.load(layout.score_array(config.checkpoints.total, config.checkpoints.total))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_checkpoints(compose_config("digits", SMALL), Layout(str(folder)))
    return folder


@pytest.mark.parametrize("sketch", ["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher"])
def test_shards_and_batches_do_not_change_scores(trained: Path, tmp_path: Path, sketch: str) -> None:
    found = []
    for number, cut in enumerate((["shards=1", "runtime.batch_size=256"], ["shards=5", "runtime.batch_size=1"])):
        folder = tmp_path / str(number)
        shutil.copytree(trained, folder)
        overrides = [*SMALL, f"sketch={sketch}", "sketch.k=64", "solver.ridge=0.3", *cut]
        found.append(attribute_all(compose_config("digits", overrides), Layout(str(folder))))
    difference = np.abs(found[0] - found[1]).max(axis=0) / np.abs(found[0]).max(axis=0)
    assert difference.max() <= 1e-4


def test_float16_storage_stays_close_and_is_what_is_stored(trained: Path, tmp_path: Path) -> None:
    from trakflow.store.array_file import ArrayFile

    shutil.copytree(trained, tmp_path / "a")
    shutil.copytree(trained, tmp_path / "b")
    full = attribute_all(compose_config("digits", SMALL), Layout(str(tmp_path / "a")))
    layout = Layout(str(tmp_path / "b"))
    half = attribute_all(compose_config("digits", [*SMALL, "sketch.dtype=float16"]), layout)
    assert ArrayFile(layout.features(0, 0)).read("features").dtype == np.float16
    assert np.abs(full - half).max() < 0.01 * np.abs(full).max()


def test_a_gram_matrix_from_features_equals_the_partial_ones(trained: Path, tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "a"))
    shutil.copytree(trained, layout.root)
    unweighted = compose_config("digits", [*SMALL, "solver.weights=off", "solver.ridge=1"])
    # Featurized for weighted rows and solved without: the partial Gram matrices are of no use, the features are.
    attribute_all(compose_config("digits", SMALL), layout)
    for number in range(2):
        attribute.finalize(at(unweighted, checkpoint=number), layout)
    from_features = scores(unweighted, layout)
    np.testing.assert_allclose(from_features, attribute_all(unweighted, layout), rtol=1e-4, atol=1e-7)


# Kept between runs of the tests where nobody has the files.
CACHE = Path(__file__).parents[2] / "results" / "downloads" / "fashion_mnist"
SMALLER = {
    "digits": [],
    "fashion_mnist": ["data.train_size=800", "sketch.k=256", f"data.train.cache='{CACHE}'"],
}


@pytest.mark.parametrize("experiment", SMALLER)
def test_the_self_lds_chooses_a_ridge_within_5_percent_of_the_best(tmp_path: Path, experiment: str) -> None:
    overrides = ["data.target_count=100", "checkpoints.count=8", "evaluation.subsets=50", "evaluation.retrains=2"]
    overrides += SMALLER[experiment]
    config, layout = compose_config(experiment, overrides), Layout(str(tmp_path))
    try:
        prepare.prepare_train(config, layout)
    except DataError as error:
        pytest.skip(f"the data cannot be had here: {error}")
    make_checkpoints(config, layout)
    chosen = attribute_all(config, layout)
    assert read_json(layout.ridge(8))["rule"] == "self-LDS"
    evaluate.subsets(at(config, batch=0), layout)
    for number in range(2):
        retrain.retrain(at(config, retrain=number, batch=0), layout)
        retrain.retrained_outputs(at(config, retrain=number, batch=0), layout)
    masks, outputs = evaluate.evaluation_data(config, layout)
    actual = outputs.mean(axis=0)
    grid = {
        ridge: lds(
            predicted_outputs(scores(compose_config(experiment, [*overrides, f"solver.ridge={ridge}"]), layout), masks),
            actual,
        )
        for ridge in np.geomspace(1e-3, 1e3, 13)
    }
    assert lds(predicted_outputs(chosen, masks), actual) >= 0.95 * max(grid.values())
    # Otherwise the test would say nothing: the ridge must matter here.
    assert min(grid.values()) < 0.8 * max(grid.values())
