"""Models inside torch's own wrappers, in one process on the CPU: the same features as without, or a clear error."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from trakflow.config.compose import compose_config
from trakflow.errors import CheckpointError, ConfigError
from trakflow.models.mlp import MLP
from trakflow.models.weights import load_weights
from trakflow.models.wrapped import unwrap
from trakflow.sketches.build import build_sketch
from trakflow.tasks.classification import Classification


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Residual(nn.Module):
    """Two layers, one of which is used twice."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        self.head = nn.Linear(5, 3)

    def forward(self, inputs):
        return self.head(self.inner(inputs) + self.inner(-inputs))


def plain(seed=0):
    torch.manual_seed(seed)
    return Residual()


def with_compiled_part(model):
    model.inner = torch.compile(model.inner)
    return model


def compiled_in_place(model):
    model.compile()
    return model


def with_part_compiled_in_place(model):
    model.inner.compile()
    return model


WRAPPERS = {
    "compiled": torch.compile,
    "data parallel": DataParallel,
    "distributed": DistributedDataParallel,
    "compiled around distributed": lambda model: torch.compile(DistributedDataParallel(model)),
    "distributed around compiled": lambda model: DistributedDataParallel(torch.compile(model)),
    "compiled in place": compiled_in_place,
    "a part compiled": with_compiled_part,
    "a part compiled in place": with_part_compiled_in_place,
    "distributed around a part compiled": lambda model: DistributedDataParallel(with_compiled_part(model)),
}


def features(model, sketch):
    settings = compose_config("digits", [f"sketch={sketch}", *(["sketch.k=16"] if sketch != "identity" else [])]).sketch
    generator = torch.Generator().manual_seed(1)
    batch = {
        "inputs": torch.randn(6, 5, generator=generator),
        "labels": torch.randint(3, (6,), generator=generator),
    }
    return build_sketch(settings, model.eval(), Classification(), 0, 0, "cpu")(batch).features


@pytest.mark.parametrize("sketch", ["tensor_sketch", "identity"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_features_are_those_of_the_model_within(one_process, name, sketch):
    wrapped = WRAPPERS[name](plain())
    inner = unwrap(wrapped)
    assert [name for name, _ in inner.named_parameters()] == [name for name, _ in plain().named_parameters()]
    # Data parallelism moves a model to the GPU where there is one.
    assert torch.equal(features(inner.cpu(), sketch), features(plain(), sketch))


@pytest.mark.parametrize("name", WRAPPERS)
def test_tensors_stay_the_same_and_the_wrapped_model_stays_wrapped(one_process, name):
    wrapped = WRAPPERS[name](plain())
    before = {key: value.data_ptr() for key, value in wrapped.state_dict().items()}
    inner = unwrap(wrapped)
    assert sorted(value.data_ptr() for value in inner.state_dict().values()) == sorted(before.values())
    assert {key: value.data_ptr() for key, value in wrapped.state_dict().items()} == before
    if name == "compiled in place":
        assert wrapped._compiled_call_impl is not None


def test_a_model_without_wrappers_is_itself():
    model = plain()
    assert unwrap(model) is model


def test_a_module_that_is_used_twice_stays_one():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), torch.compile(nn.Linear(4, 4)), layer)
    inner = unwrap(model)
    assert inner[0] is inner[3] is layer


@pytest.mark.parametrize("name", WRAPPERS)
def test_checkpoints_saved_from_wrapped_models_load_into_plain_ones(one_process, name):
    state = WRAPPERS[name](plain(1)).state_dict()
    model = plain(0)
    load_weights(model, state, "The checkpoint")
    for key, value in plain(1).state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_modules_of_such_names_keep_them():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.my_orig_mod = nn.Linear(2, 2)

    for kind in (Holder, Named):
        torch.manual_seed(0)
        trained, model = kind(), kind()
        for state in (trained.state_dict(), {f"module.{name}": value for name, value in trained.state_dict().items()}):
            load_weights(model, state, "The checkpoint")
            assert all(torch.equal(model.state_dict()[name], value) for name, value in trained.state_dict().items())


def test_a_checkpoint_of_another_model_stays_refused_in_a_wrapper(one_process):
    with pytest.raises(CheckpointError, match="of another architecture"):
        load_weights(plain(), DataParallel(MLP(5, [4], 3)).state_dict(), "The checkpoint")


def test_sharded_parameters_are_refused(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = plain()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ConfigError, match=r"sharded over processes \(FSDP\).*full_state_dict"):
        unwrap(model)


def test_what_is_no_module_is_refused():
    with pytest.raises(ConfigError, match=r"The model is function; it must be a torch\.nn\.Module"):
        unwrap(lambda inputs: inputs)
