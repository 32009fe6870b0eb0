"""The stages that bring in data and checkpoints, and what they refuse."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.numpy import load_file

from trakflow.devices import usable_device
from trakflow.errors import CheckpointError, ConfigError, DataError, DeviceError, NumericalError
from trakflow.models.mlp import MLP
from trakflow.stages.checkpoints import import_checkpoint, import_mask, train_checkpoint
from trakflow.stages.describe import describe
from trakflow.stages.featurize import featurize
from trakflow.stages.prepare import prepare_targets, prepare_train

MODULE = """
import numpy as np
from torch import nn
from trakflow.data.examples import Examples
from trakflow.tasks.base import Task

class NoCurvature(Task):
    def output(self, raw, batch):
        return raw[:, 0]

    def loss_gradient(self, raw, batch):
        return raw[:, 0]

class NoLabels:
    def __new__(cls, size):
        return Examples({"inputs": np.zeros((size, 1, 8, 8), dtype=np.float32)})

class OneIsNaN:
    def __new__(cls, size):
        inputs = np.zeros((size, 64), dtype=np.float32)
        inputs[3] = np.nan
        return inputs, np.zeros(size, dtype=int)

class CompiledInParallel:
    def __new__(cls, **arguments):
        from torch.nn.parallel import DataParallel
        from trakflow.models.mlp import MLP
        import torch
        return torch.compile(DataParallel(MLP(**arguments)))

class Returns:
    def __new__(cls, **arguments):
        return None
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Components of a user's, importable as `components_of_a_test`."""
    (tmp_path / "components_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "components_of_a_test", raising=False)


def test_targets_keep_their_labels_beside_those_attributed(experiment):
    run = experiment("targets.output=3")
    run.run(prepare_targets)
    targets = load_file(run.layout.targets)
    assert targets["attributed_labels"].tolist() == [3] * 7
    assert len(set(targets["labels"].tolist())) > 1
    run.configure().run(prepare_targets)
    targets = load_file(run.layout.targets)
    assert targets["attributed_labels"].tolist() == targets["labels"].tolist()


def test_predicted_labels_are_the_vote_of_the_checkpoints(experiment):
    run = experiment("targets.output=predicted", "data.target_count=40", "training.epochs=2")
    run.run(prepare_train)
    run.train().run(prepare_targets)
    targets = load_file(run.layout.targets)
    votes = []
    for number in range(3):
        model = MLP(64, [8], 10)
        model.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(run.layout.checkpoint(number)).items()})
        votes.append(model(torch.from_numpy(targets["inputs"])).argmax(dim=1).numpy())
    votes = np.stack(votes)
    # argmax of the counts is the lowest label of those with most votes.
    expected = [np.bincount(column, minlength=10).argmax() for column in votes.T]
    assert targets["attributed_labels"].tolist() == expected
    assert (votes != votes[0]).any()
    assert (targets["attributed_labels"] != targets["labels"]).any()


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["data.train.size=50"], DataError, r"'inputs' has 50 examples but data\.train_size is 60"),
        (["data.num_classes=5"], DataError, "have labels outside 0 to 4"),
        (
            ["+data.train.colour=red"],
            ConfigError,
            r"`data\.train` \(trakflow\.data\.digits\.train\) cannot be made.*colour",
        ),
        (["data.train._target_=trakflow.data.digits.trian"], ConfigError, r"`data\.train`.*trian"),
        (["data.train._target_=components_of_a_test.OneIsNaN"], DataError, "Examples 3 hold NaN or Inf in 'inputs'"),
        (["data.train._target_=components_of_a_test.Returns"], DataError, "returned NoneType; return"),
    ],
)
def test_data_that_does_not_fit_its_description_is_refused(experiment, user_module, overrides, error, message):
    with pytest.raises(error, match=message):
        experiment(*overrides).run(prepare_train)


def test_targets_that_are_prepared_after_the_checkpoints_are_looked_at_before_them(experiment):
    run = experiment("targets.output=predicted", "data.targets.size=5")
    with pytest.raises(DataError, match=r"'inputs' has 5 examples but data\.target_count is 7"):
        run.run(prepare_train)
    run.configure("data.targets.size=5").run(prepare_train)


def test_a_chosen_label_needs_labels(experiment, user_module):
    run = experiment("data.targets._target_=components_of_a_test.NoLabels", "targets.output=3")
    with pytest.raises(ConfigError, match=r"targets\.output=3 chooses a label, but the targets have none"):
        run.run(prepare_targets)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model._target_=builtins.dict"], r"`model` \(builtins\.dict\) made a dict; it must be a torch\.nn\.Module"),
        (
            ["task._target_=builtins.dict"],
            r"`task` \(builtins\.dict\) made a dict; it must be a trakflow\.tasks\.base\.Task",
        ),
        (["+model.depth=3"], r"`model` \(trakflow\.models\.mlp\.MLP\) cannot be made.*depth"),
        (["task._target_=components_of_a_test.NoCurvature"], r"NoCurvature has no loss.*checkpoints\.files"),
    ],
)
def test_components_that_cannot_be_trained_are_refused(experiment, user_module, overrides, message):
    run = experiment().prepare()
    run.configure(*overrides)
    with pytest.raises(ConfigError, match=message):
        run.run(train_checkpoint, checkpoint=0)


def test_a_task_without_curvature_needs_weights_off(experiment, user_module):
    run = experiment().prepare().train()
    run.configure("task._target_=components_of_a_test.NoCurvature")
    with pytest.raises(ConfigError, match=r"NoCurvature defines no curvature.*solver\.weights=off"):
        run.run(featurize, checkpoint=0, shard=0)
    run.configure("task._target_=components_of_a_test.NoCurvature", "solver.weights=off")
    run.run(featurize, checkpoint=0, shard=0)
    assert "curvatures" not in load_file(run.layout.features(0, 0))


def with_checkpoint(experiment, tmp_path, state, *overrides):
    torch.save(state, tmp_path / "own.pt")
    files = f"checkpoints.files=['{tmp_path / 'own.pt'}']"
    return experiment("checkpoints.count=null", files, "evaluation.checkpoint_counts=[1]", *overrides)


def test_own_checkpoints_are_imported_and_so_are_their_masks(experiment, tmp_path):
    torch.manual_seed(0)
    state = MLP(64, [8], 10).state_dict()
    run = with_checkpoint(experiment, tmp_path, state)
    run.run(import_checkpoint, checkpoint=0)
    kept = load_file(run.layout.checkpoint(0))
    assert all(np.array_equal(kept[name], value.numpy()) for name, value in state.items())
    with pytest.raises(ConfigError, match=r"checkpoints\.masks is not set"):
        run.run(import_mask, checkpoint=0)
    mask = np.arange(60)[None] % 3 == 0
    np.save(tmp_path / "masks.npy", mask.astype(np.int64))
    run = with_checkpoint(experiment, tmp_path, state, f"checkpoints.masks='{tmp_path / 'masks.npy'}'")
    run.run(import_mask, checkpoint=0)
    assert np.load(run.layout.checkpoint_mask(0)).tolist() == mask[0].tolist()


def test_a_wrapped_model_and_its_checkpoint_give_the_plain_ones_features(experiment, tmp_path, user_module):
    torch.manual_seed(0)
    state, found = MLP(64, [8], 10).state_dict(), []
    for prefix, target in (
        ("", "trakflow.models.mlp.MLP"),
        ("_orig_mod.module.", "components_of_a_test.CompiledInParallel"),
    ):
        named = {prefix + name: value for name, value in state.items()}
        run = with_checkpoint(experiment, tmp_path, named, f"model._target_={target}").prepare()
        run.run(import_checkpoint, checkpoint=0)
        run.run(featurize, checkpoint=0, shard=0)
        found.append((load_file(run.layout.checkpoint(0)), load_file(run.layout.features(0, 0))["features"]))
    assert found[0][0].keys() == found[1][0].keys()
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_an_own_checkpoint_that_does_not_fit_is_refused(experiment, tmp_path):
    run = with_checkpoint(experiment, tmp_path, MLP(64, [9], 10).state_dict())
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/own\.pt is of another architecture"):
        run.run(import_checkpoint, checkpoint=0)
    for masks in (np.ones((2, 60)), np.ones((1, 59)), np.full((1, 60), 2)):
        np.save(tmp_path / "masks.npy", masks)
        run = with_checkpoint(
            experiment, tmp_path, MLP(64, [8], 10).state_dict(), f"checkpoints.masks='{tmp_path / 'masks.npy'}'"
        )
        with pytest.raises(DataError, match=r"checkpoints\.masks must be an array of 0 and 1 of shape \(1, 60\)"):
            run.run(import_mask, checkpoint=0)
    run = experiment()
    with pytest.raises(ConfigError, match=r"checkpoints\.files is not set"):
        run.run(import_checkpoint, checkpoint=0)


def test_overflowing_gradients_name_the_examples_by_their_place_in_the_whole(experiment, tmp_path):
    state = {name: torch.full_like(value, 1e25) for name, value in MLP(64, [8], 10).state_dict().items()}
    run = with_checkpoint(experiment, tmp_path, state).prepare()
    run.run(import_checkpoint, checkpoint=0)
    with pytest.raises(NumericalError, match="examples 30, 31, 32, 33, 34 and more are NaN or Inf"):
        run.run(featurize, checkpoint=0, shard=1)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_features_too_large_for_their_storage_are_refused(experiment, tmp_path):
    torch.manual_seed(0)
    state = {name: 400 * value for name, value in MLP(64, [8], 10).state_dict().items()}
    run = with_checkpoint(experiment, tmp_path, state, "sketch.dtype=float16").prepare()
    run.run(import_checkpoint, checkpoint=0)
    state["layers.3.weight"] *= 1e4
    run = with_checkpoint(experiment, tmp_path, state, "sketch.dtype=float16")
    run.run(import_checkpoint, checkpoint=0)
    with pytest.raises(NumericalError, match=r"overflow float16; set sketch\.dtype=float32"):
        run.run(featurize, checkpoint=0, shard=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(experiment):
    run = experiment().prepare().configure("runtime.device=cuda")
    with pytest.raises(
        DeviceError, match=r"runtime\.device=cuda but no NVIDIA GPU is visible; set runtime\.device=cpu"
    ):
        run.run(train_checkpoint, checkpoint=0)


def test_what_is_no_device_is_refused():
    with pytest.raises(DeviceError, match=r"runtime\.device=quantum is no device; use cpu, cuda"):
        usable_device("quantum")


@pytest.mark.parametrize("job", [{}, {"shard": 0}, {"checkpoint": 0}])
def test_a_stage_says_which_of_its_arguments_is_missing(experiment, job):
    missing = "job.checkpoint" if "checkpoint" not in job else "job.shard"
    with pytest.raises(ConfigError, match=f"{missing} is not set"):
        experiment().run(featurize, **job)


def test_the_configuration_written_down_is_the_one_in_use(experiment):
    run = experiment("sketch.k=7")
    run.run(describe)
    written = OmegaConf.to_container(OmegaConf.load(run.layout.config))
    assert written == run.config.model_dump(mode="json", exclude={"job", "runtime"})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.outputs=8", r"returns outputs of shape \(1, 8\).*data\.num_classes is 10"),
        ("model.outputs=12", r"returns outputs of shape \(1, 12\).*data\.num_classes is 10"),
        ("model.inputs=63", r"cannot take one example \(inputs \(1, 1, 8, 8\), labels \(1,\)\)"),
        (
            "model._target_=trakflow.models.mlp.MPL",
            r"`model`.*module trakflow\.models\.mlp .* has no `MPL`; it has MLP",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused_before_it_trains(experiment, override, message):
    run = experiment().prepare()
    run.configure(override)
    with pytest.raises(ConfigError, match=message):
        run.run(train_checkpoint, checkpoint=0)


def test_a_task_for_other_data_is_refused_before_it_trains(experiment):
    small = ["data.train_size=60", "data.target_count=7", "scores.topk=5", "evaluation.subsets=6"]
    run = experiment(base="diabetes", small=small).prepare()
    run.configure("task=image_classification", "data.num_classes=2")
    with pytest.raises(ConfigError, match=r"examples have inputs, values.*task=regression"):
        run.run(train_checkpoint, checkpoint=0)
