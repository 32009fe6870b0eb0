"""Any state dict: loaded with its very values, or refused with the names of what is wrong, and never half loaded."""

import zipfile

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from trakflow.errors import CheckpointError
from trakflow.models.weights import load_weights, read_state
from trakflow.training.sgd import make_model

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int32, torch.bool]


def model():
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2, bias=False))


RIGHT = make_model(model, 0).state_dict()


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


CHANGES = {
    "renamed": lambda state, name: {**without(state, name), name + "_": state[name]},
    "missing": without,
    "extra": lambda state, name: {**state, name + ".more": state[name]},
    "transposed": lambda state, name: {**state, name: state[name].T.contiguous()},
    "longer": lambda state, name: {**state, name: torch.cat([state[name].reshape(-1)] * 2)},
    "NaN": lambda state, name: {**state, name: state[name] * float("nan")},
    "complex": lambda state, name: {**state, name: state[name].to(torch.complex64)},
    "sparse": lambda state, name: {**state, name: state[name].to_sparse()},
    "compressed rows": lambda state, name: {**state, name: state[name].reshape(1, -1).to_sparse_csr()},
    "quantized": lambda state, name: {
        **state,
        name: torch.quantize_per_tensor(state[name].float(), 0.1, 0, torch.qint8),
    },
    "nowhere": lambda state, name: {**state, name: state[name].to("meta")},
    "nested": lambda state, name: {**state, name: torch.nested.nested_tensor([state[name].reshape(-1)])},
    "one number for all": lambda state, name: {**state, name: torch.zeros(()).expand(2**50)},
    "a number": lambda state, name: {**state, name: 1.0},
    "a list": lambda state, name: {**state, name: state[name].tolist()},
    "numbered": lambda state, name: {**state, 3: state[name]},
}


def kind(tensor):
    return tensor.is_floating_point(), tensor.is_complex()


@given(st.sampled_from(sorted(RIGHT)), st.none() | st.sampled_from(sorted(CHANGES)), st.sampled_from(DTYPES))
@example("0.weight", "complex", torch.float32)
@example("0.weight", None, torch.float8_e4m3fn)
@example("1.num_batches_tracked", None, torch.float32)
@example("0.bias", "nested", torch.float32)
@pytest.mark.filterwarnings("ignore")
def test_a_state_dict_is_loaded_as_it_is_or_refused(tmp_path_factory, name, change, dtype):
    path = tmp_path_factory.mktemp("checkpoint") / "c.pt"
    state = {**RIGHT, name: RIGHT[name].to(dtype)}
    state = state if change is None else CHANGES[change](state, name)
    torch.save(state, path)
    mine = make_model(model, 1)
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    try:
        load_weights(mine, read_state(path), f"Checkpoint {path}")
    except CheckpointError as error:
        assert str(path) in str(error)
        assert all(torch.equal(value, before[key]) for key, value in mine.state_dict().items())
        # The only right ones that are refused are those of another kind of number.
        assert change is not None or kind(state[name]) != kind(RIGHT[name])
        return
    assert mine.state_dict().keys() == state.keys()
    for key, value in mine.state_dict().items():
        assert torch.equal(value, state[key].to(value.dtype))
    assert all(torch.isfinite(value).all() for value in mine.state_dict().values())


@given(st.binary(max_size=200), st.sampled_from([".pt", ".pth", ".safetensors", ""]), st.booleans())
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path_factory, content, suffix, after_zip):
    path = tmp_path_factory.mktemp("bytes") / f"c{suffix}"
    path.write_bytes((b"PK\x03\x04" if after_zip else b"") + content)
    with pytest.raises(CheckpointError, match="c"):
        read_state(path)


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"w": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 16
    assert read_state(tmp_path / "plain.pt")["w"].shape == (1 << 20,)
    with pytest.raises(CheckpointError, match="compressed"):
        read_state(tmp_path / "bomb.pt")
