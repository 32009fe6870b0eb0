import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trakflow.errors import CheckpointError
from trakflow.models.mlp import MLP
from trakflow.models.weights import load_weights, read_state, write_weights


def model(seed=0, width=3):
    torch.manual_seed(seed)
    return MLP(4, [width], 2)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in right)


def prefixed(state):
    return {f"module.{name}": value for name, value in state.items()}


FORMS = {
    "state.pt": torch.save,
    "state.pth": torch.save,
    "legacy.pt": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "plain.safetensors": save_file,
    "ours.safetensors": lambda state, path: write_weights(path, state),
    "state_dict.pt": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    "model_state_dict.pt": lambda state, path: torch.save({"model_state_dict": state, "loss": 0.5}, path),
    "model.pt": lambda state, path: torch.save({"model": state, "optimizer": {"lr": 0.1}}, path),
    "parallel.pt": lambda state, path: torch.save(prefixed(state), path),
    "parallel.safetensors": lambda state, path: save_file(prefixed(state), path),
    "wrapped_parallel.pt": lambda state, path: torch.save({"state_dict": prefixed(state)}, path),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_state_dict_loads_to_the_same_weights(name, tmp_path):
    original, loaded = model(0), model(1)
    FORMS[name](original.state_dict(), tmp_path / name)
    load_weights(loaded, read_state(tmp_path / name), name)
    assert same(loaded.state_dict(), original.state_dict())


def test_tied_and_integer_tensors_survive_writing(tmp_path):
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
    tied[1].weight = tied[0].weight
    write_weights(tmp_path / "a.safetensors", tied.state_dict())
    assert same(read_state(tmp_path / "a.safetensors"), tied.state_dict())


def test_equal_weights_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_weights(tmp_path / name, model().state_dict())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", ["state.pt", "legacy.pt", "plain.safetensors"])
def test_a_truncated_file_is_refused_wherever_it_ends(name, tmp_path):
    FORMS[name](model().state_dict(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=name):
            read_state(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["state.pt", "legacy.pt", "plain.safetensors"])
def test_a_damaged_file_is_refused_or_read_but_never_crashes(name, tmp_path):
    FORMS[name](model().state_dict(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for position in random.integers(0, len(whole), 150):
        (tmp_path / name).write_bytes(whole[:position] + bytes([random.integers(256)]) + whole[position + 1 :])
        try:
            load_weights(model(), read_state(tmp_path / name), name)
        except CheckpointError:
            refused += 1
    assert refused > 10


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "save",
    [
        torch.save,
        lambda trap, path: torch.save(trap, path, _use_new_zipfile_serialization=False),
        lambda trap, path: torch.save({"state_dict": model().state_dict(), "extra": trap}, path),
        lambda trap, path: path.write_bytes(pickle.dumps(trap)),
        lambda trap, path: path.write_bytes(pickle.dumps({"state_dict": {"a": trap}}, protocol=0)),
    ],
)
def test_code_in_a_pickle_is_refused_and_not_run(save, tmp_path):
    sprung = tmp_path / "sprung"
    save(Trap(sprung), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt.*never runs the code in a pickle.*state_dict"):
        read_state(tmp_path / "a.pt")
    assert not sprung.exists()
    # The trap is a real one.
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        ({1: torch.ones(2)}, "holds no state dict"),
        ({"state_dict": {"a": 1.0}}, "holds no state dict"),
        (torch.ones(2), "holds no state dict"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(value, message, tmp_path):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        read_state(tmp_path / "a.pt")


def test_a_missing_file_says_from_where_it_was_looked_for(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"missing\.pt does not exist \(looked from .*\); correct checkpoints\.files"
    ):
        read_state(tmp_path / "missing.pt")


def test_another_architecture_is_refused_by_naming_what_differs():
    state = model(width=5).state_dict()
    with pytest.raises(
        CheckpointError, match=r"mine is of another architecture.*'layers\.1\.bias' has shape \(5,\), the model \(3,\)"
    ):
        load_weights(model(), state, "mine")
    state = model().state_dict()
    renamed = {name.replace("layers", "net"): value for name, value in state.items()}
    with pytest.raises(CheckpointError, match=r"'layers\.1\.bias' is missing.*and 4 more"):
        load_weights(model(), renamed, "mine")
    with pytest.raises(CheckpointError, match="'extra' is not in the model"):
        load_weights(model(), {**state, "extra": torch.ones(1)}, "mine")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_and_the_model_left_alone(value):
    target = model(1)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = model(0).state_dict()
    state["layers.3.bias"] = torch.tensor([0.0, value])
    with pytest.raises(CheckpointError, match=r"mine holds NaN or Inf in 'layers\.3\.bias'"):
        load_weights(target, state, "mine")
    assert same(target.state_dict(), before)
