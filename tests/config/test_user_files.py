"""Files of the user's: looked for, and the shapes of their arrays, before any job runs."""

import numpy as np
import pytest

from trakflow.config.compose import compose_config
from trakflow.config.user_files import check_features_from, check_user_files
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


# Which settings name them.
NAMES = {"masks": r"checkpoints\.masks", "subsets": r"evaluation\.masks", "outputs": r"evaluation\.outputs"}


def write_all(folder, **shapes):
    for name in ("a.pt", "b.pt"):
        (folder / name).touch()
    for name, shape in {**SHAPES, **shapes}.items():
        np.save(folder / f"{name}.npy", np.zeros(shape))


def check(folder, monkeypatch, **shapes):
    monkeypatch.chdir(folder)
    write_all(folder, **shapes)
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
        ({"subsets": (2, 90), "outputs": (2, 12)}, r"evaluation\.masks: .* holds 2 subsets, .* at least 3; bring more"),
    ],
)
def test_arrays_of_another_shape_are_refused(tmp_path, monkeypatch, shapes, message):
    with pytest.raises(ConfigError, match=message):
        check(tmp_path, monkeypatch, **shapes)


UNREADABLE = {
    "text": (lambda path: path.write_text("0,1\n1,0\n"), "it does not begin as one"),
    "nothing": (lambda path: path.write_bytes(b""), "it does not begin as one"),
    "a pickle": (lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True), "Python objects"),
    "words": (lambda path: np.save(path, np.array(["a"])), "it holds <U1"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "mmap length"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize(("name", "setting"), NAMES.items())
def test_files_that_are_no_arrays_are_refused(tmp_path, monkeypatch, name, setting, kind):
    spoil, reason = UNREADABLE[kind]
    write_all(tmp_path)
    spoil(tmp_path / f"{name}.npy")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"{setting}: {name}\.npy is no \.npy array of numbers \(.*{reason}.*save"):
        check_user_files(compose_config("digits", OWN))


@pytest.mark.parametrize("shape", [(12, 90), (90,), (90, 12, 1)])
def test_scores_of_another_shape_are_refused(tmp_path, monkeypatch, shape):
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", np.zeros(shape))
    given = ["methods=[trak,external]", "method.external.make.path=mine.npy", *OWN[:2]]
    with pytest.raises(ConfigError, match=r"method\.external\.make\.path: mine\.npy has shape .* needs \(90, 12\)"):
        check_user_files(compose_config("digits", given))
    np.save("mine.npy", np.zeros((90, 12)))
    check_user_files(compose_config("digits", given))


@pytest.mark.parametrize("folder", ["results/digits", "./results/digits/", "results/../results/digits"])
def test_features_are_not_taken_from_where_they_are_written(folder):
    config = compose_config("digits", [f"features_from={folder}"])
    with pytest.raises(ConfigError, match=r"features_from=.* is this experiment's own folder; name that of another"):
        check_features_from(config, "results/digits")
    check_features_from(config, "results/digits_of_another_name")
    check_features_from(compose_config("digits"), "results/digits")


def test_missing_files_of_data_and_methods_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["data.files=[a.csv]", "methods=[trak,external]", "method.external.make.path=mine.npy"]
    with pytest.raises(ConfigError, match=r"data\.files: a\.csv\n  method\.external\.files: mine\.npy"):
        check_user_files(compose_config("digits", given))
