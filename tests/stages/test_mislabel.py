"""Wrong labels from the wrapped data set to the table and the figure."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score

from trakflow.data.digits import train
from trakflow.errors import DataError
from trakflow.stages.figures import draw_mislabel
from trakflow.stages.methods import attribute, attribute_checkpoint
from trakflow.stages.mislabel import evaluate_mislabel
from trakflow.stages.prepare import prepare_train

SMALL = (
    "data.train_size=100",
    "model.widths=[16]",
    "training.batch_size=8",
    "training.epochs=15",
    "checkpoints.count=4",
    "sketch.k=128",
    "scores.topk=5",
    "evaluation.bootstrap=100",
)


@pytest.fixture
def mislabelled(experiment):
    return lambda *overrides: experiment(*overrides, base="digits_mislabelled", small=SMALL)


def test_self_influence_finds_wrong_labels_and_the_table_says_how_well(mislabelled, tmp_path):
    path = tmp_path / "scores.npy"
    run = mislabelled("methods=[trak,gas,external]", f"method.external.make.path={path}").prepare()
    data = load_file(run.layout.train)
    flipped, originals = data["flipped"], train(100).labels
    np.testing.assert_array_equal(flipped, data["labels"] != originals)
    np.testing.assert_array_equal(load_file(run.layout.targets)["attributed_labels"], data["labels"])
    # Scores made elsewhere, which know the answer but for one label.
    known = np.diag(flipped.astype(float))
    known[(wrong := np.flatnonzero(flipped)[0]), wrong] = -1
    np.save(path, known + np.triu(np.full((100, 100), 7.0), 1))
    run.train().featurize().solve()
    for checkpoint in run.checkpoints:
        run.run(attribute_checkpoint, method="gas", checkpoint=checkpoint)
    for method in ("gas", "external"):
        run.run(attribute, method=method)
    run.run(evaluate_mislabel)
    run.run(draw_mislabel)

    table = pd.read_csv(run.layout.mislabel).set_index("method")
    assert list(table.index) == ["trak", "gas", "external"]
    assert (table[["flipped", "examples"]] == [10, 100]).all(axis=None)
    assert table.loc["trak", "average_precision"] == pytest.approx(
        average_precision_score(flipped, np.diagonal(run.scores()))
    )
    # Ten of a hundred are wrong, and a model that learned them by heart knows which it had to.
    assert table.loc["trak", "ci_low"] > 0.2
    # The cosine of a gradient with itself is one for every example.
    assert table.loc["gas", "average_precision"] == pytest.approx(0.1)
    assert table.loc["external", "average_precision"] == pytest.approx(0.9 + 0.1 * 10 / 100)
    assert (table["ci_low"] <= table["average_precision"]).all()
    assert (table["average_precision"] <= table["ci_high"] + 1e-9).all()

    curves = pd.read_csv(run.layout.mislabel_curve)
    known = curves[curves["method"] == "external"]
    points = known[["examined", "precision", "recall"]].to_numpy()
    np.testing.assert_allclose(points, [[9, 1, 0.9], [99, 1 / 11, 0.9], [100, 0.1, 1]])
    pd.testing.assert_frame_equal(pd.read_csv(run.layout.figure("mislabel", "csv")), curves)
    assert all(Path(run.layout.figure("mislabel", suffix)).stat().st_size > 1000 for suffix in ("svg", "png"))


def test_data_that_do_not_say_which_labels_are_wrong_are_refused_first_of_all(mislabelled):
    run = mislabelled()
    replaced = {"_target_": "trakflow.data.digits.train", "size": 100}
    data = run.config.data.model_copy(update={"train": replaced, "targets": replaced})
    run.config = run.config.model_copy(update={"data": data})
    with pytest.raises(DataError, match="does not say which labels are wrong; wrap it in"):
        run.run(prepare_train)
    run.config = run.config.model_copy(update={"mislabel": False})
    run.prepare()
    with pytest.raises(DataError, match=r"not known which labels of .* are wrong"):
        run.run(evaluate_mislabel)
