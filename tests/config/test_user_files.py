"""Files of the user's: looked for, and the shapes of their arrays, before any job runs."""

import numpy as np
import pytest

from trakflow.config.compose import compose_config
from trakflow.config.user_files import check_user_files
from trakflow.errors import ConfigError

OWN = [
    "data.train_size=90",
    "data.target_count=12",
    "checkpoints.count=null",
    "checkpoints.files=[a.pt,b.pt]",
    "checkpoints.masks=masks.npy",
    "solver.ridge=1",
    "evaluation=files",
    "evaluation.masks=subsets.npy",
    "evaluation.outputs=outputs.npy",
    "shards=1",
]
SHAPES = {"masks": (2, 90), "subsets": (20, 90), "outputs": (20, 12)}


def check(folder, monkeypatch, **shapes):
    monkeypatch.chdir(folder)
    for name in ("a.pt", "b.pt"):
        (folder / name).touch()
    for name, shape in {**SHAPES, **shapes}.items():
        np.save(folder / f"{name}.npy", np.zeros(shape))
    check_user_files(compose_config("digits", OWN))


@pytest.mark.parametrize("outputs", [(20, 12), (3, 20, 12)])
def test_arrays_that_fit_are_taken(tmp_path, monkeypatch, outputs):
    check(tmp_path, monkeypatch, outputs=outputs)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"masks": (3, 90)}, r"checkpoints\.masks: masks\.npy has shape \(3, 90\), and .* needs \(2, 90\)"),
        ({"subsets": (20, 91)}, r"evaluation\.masks: .* needs \(20, 90\)"),
        ({"outputs": (19, 12)}, r"evaluation\.outputs: .* needs \(20, 12\)"),
        ({"outputs": (3, 20, 11)}, r"evaluation\.outputs: .* needs \(20, 12\), or \(3, 20, 12\)"),
    ],
)
def test_arrays_of_another_shape_are_refused(tmp_path, monkeypatch, shapes, message):
    with pytest.raises(ConfigError, match=message):
        check(tmp_path, monkeypatch, **shapes)


def test_missing_files_of_data_and_methods_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["data.files=[a.csv]", "methods=[trak,external]", "method.external.make.path=mine.npy"]
    with pytest.raises(ConfigError, match=r"data\.files: a\.csv\n  method\.external\.files: mine\.npy"):
        check_user_files(compose_config("digits", given))
