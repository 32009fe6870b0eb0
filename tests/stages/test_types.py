"""Models in other types than float32 through the stages of the workflow, whose data are float32."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from trakflow.models.mlp import MLP
from trakflow.stages.checkpoints import import_checkpoint, train_checkpoint
from trakflow.stages.evaluate import subsets
from trakflow.stages.featurize import featurize, featurize_targets
from trakflow.stages.prepare import prepare_targets, prepare_train
from trakflow.stages.retrain import retrain, retrained_outputs
from trakflow.tasks.classification import Classification

MODULE = """
import torch
from trakflow.models.mlp import MLP

def mlp(dtype, **arguments):
    return MLP(**arguments).to(getattr(torch, dtype))
"""
# Of the norm: what the types keep of each number that a layer passes on.
TOLERANCES = {"float64": 1e-5, "bfloat16": 5e-2}


@pytest.fixture
def typed(experiment, tmp_path, monkeypatch):
    """Make an experiment whose model has a type."""
    (tmp_path / "typed_models_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(dtype, *overrides):
        model = ["model._target_=typed_models_of_a_test.mlp", f"+model.dtype={dtype}", "checkpoints.count=1"]
        return experiment(*model, *overrides, name=dtype)

    return make


def distance(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_features_by_a_checkpoint_are_those_of_single_precision(typed, dtype):
    run = typed(dtype, "targets.output=predicted")
    run.run(prepare_train)
    run.run(train_checkpoint, checkpoint=0)
    checkpoint = run.layout.checkpoint(0)
    assert {str(value.dtype) for value in load_tensors(checkpoint).values()} == {f"torch.{dtype}"}
    in_single = typed(
        "float32", "targets.output=predicted", "checkpoints.count=null", f"checkpoints.files=[{checkpoint}]"
    )
    in_single.run(prepare_train)
    in_single.run(import_checkpoint, checkpoint=0)
    for one in (run, in_single):
        one.run(prepare_targets)
        one.run(featurize, checkpoint=0, shard=0)
        one.run(featurize_targets, checkpoint=0)
    for path in (lambda layout: layout.features(0, 0), lambda layout: layout.target_features(0)):
        found, expected = load_file(path(run.layout)), load_file(path(in_single.layout))
        assert {name: value.dtype for name, value in found.items()} == {
            name: value.dtype for name, value in expected.items()
        }
        for name in found.keys() - {"gram"}:
            assert distance(found[name], expected[name]) < TOLERANCES[dtype], name


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("ensemble", ["true", "false"])
def test_outputs_of_retrained_models_are_those_of_single_precision(typed, dtype, ensemble):
    run = typed(dtype, f"training.ensemble={ensemble}").prepare()
    for stage, job in ((subsets, {}), (retrain, {"retrain": 0}), (retrained_outputs, {"retrain": 0})):
        run.run(stage, batch=0, **job)
    stacked, targets = load_file(run.layout.retrained(0, 0)), load_file(run.layout.targets)
    outputs = load_file(run.layout.retrained_outputs(0, 0))["outputs"]
    assert outputs.dtype == np.float32
    model = MLP(64, [8], 10)
    for number, row in enumerate(outputs):
        model.load_state_dict({name: torch.from_numpy(value[number]).float() for name, value in stacked.items()})
        raw = model(torch.from_numpy(targets["inputs"]))
        expected = Classification().output(raw, {"labels": torch.from_numpy(targets["labels"])}).detach().numpy()
        assert distance(row, expected) < TOLERANCES[dtype]
