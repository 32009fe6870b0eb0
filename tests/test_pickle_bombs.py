"""A pickle bomb planted as a checkpoint, as an array and as a configuration: each is refused, and none goes off.

A configuration is trusted code all the same: what `_target_` names is imported and called. But no YAML makes Python
objects, so that reading one, as `TRAKer` does with a results folder's, runs nothing.
"""

import os
import pickle

import numpy as np
import pytest
import torch

from trakflow import TRAKer
from trakflow.config.compose import compose_config
from trakflow.data.arrays import read_array
from trakflow.errors import CheckpointError, ConfigError, DataError, StoreError, TrakflowError
from trakflow.models.mlp import MLP
from trakflow.models.weights import read_state
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import read_json


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def pickled(bomb, path):
    path.write_bytes(pickle.dumps(bomb))


def as_array(bomb, path):
    with path.open("wb") as file:  # np.save would add a suffix
        np.save(file, np.array([bomb], dtype=object), allow_pickle=True)


PLANTED = {
    "a pickled checkpoint": ("c.pt", pickled, read_state, CheckpointError),
    "a checkpoint of torch": ("c.pt", torch.save, read_state, CheckpointError),
    "a pickle named .safetensors": ("c.safetensors", pickled, read_state, CheckpointError),
    "a checkpoint of torch named .safetensors": ("c.safetensors", torch.save, read_state, CheckpointError),
    "an array of objects": ("a.npy", as_array, lambda path: read_array(str(path), "evaluation.masks"), DataError),
    "a pickle named .npy": ("a.npy", pickled, lambda path: read_array(str(path), "evaluation.masks"), DataError),
    "an array file": ("a.safetensors", pickled, ArrayFile, StoreError),
    "an array of objects as an array file": ("a.safetensors", as_array, ArrayFile, StoreError),
    "a record of facts": ("a.json", pickled, read_json, StoreError),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", PLANTED)
def test_a_bomb_in_a_file_is_refused_and_does_not_go_off(name, tmp_path):
    file, plant, read, error = PLANTED[name]
    crater = tmp_path / "crater"
    plant(Bomb(crater), tmp_path / file)
    with pytest.raises(error):
        read(tmp_path / file)
    assert not crater.exists()
    # The bomb is a real one.
    pickle.loads(pickle.dumps(Bomb(crater)))
    assert crater.exists()


def yaml_bomb(crater):
    return f"!!python/object/apply:os.mkdir ['{crater}']"


CONFIGS = {
    "as a value": "# @package _global_\ndata: {{train_size: {bomb}}}\n",
    "as a whole": "{bomb}\n",
    "as a default": "defaults: [{bomb}]\n",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bomb_in_a_configuration_is_refused_and_does_not_go_off(name, tmp_path):
    crater, folder = tmp_path / "crater", tmp_path / "config" / "experiment"
    folder.mkdir(parents=True)
    (folder / "bomb.yaml").write_text(CONFIGS[name].format(bomb=yaml_bomb(crater)))
    with pytest.raises(ConfigError, match="'bomb' cannot be composed"):
        compose_config("bomb", [], [str(tmp_path / "config")])
    assert not crater.exists()


@pytest.mark.parametrize("text", [None, "a: [1", "a: b: c", "\x00"])
def test_the_configuration_of_a_results_folder_runs_nothing(text, tmp_path):
    crater = tmp_path / "crater"
    (tmp_path / "config.yaml").write_text(f"seed: {yaml_bomb(crater)}\n" if text is None else text)
    with pytest.raises(TrakflowError, match=r"config\.yaml"):
        TRAKer(MLP(4, [3], 2), "image_classification", 5, tmp_path, device="cpu", proj_dim=4)
    assert not crater.exists()


def test_a_configuration_that_is_no_yaml_is_refused_in_a_sentence(tmp_path):
    folder = tmp_path / "config" / "experiment"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("data: [1\n")
    with pytest.raises(ConfigError, match="'broken' cannot be composed"):
        compose_config("broken", [], [str(tmp_path / "config")])
