"""What later jobs would fail at is found before training, and changes nothing that is trained."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from run_snakemake import REPOSITORY, environment

from pairs import OVERRIDES
from speeches import checksum, tarball, ten_speeches
from trakflow.config.compose import compose_config
from trakflow.data import sotu
from trakflow.errors import ConfigError
from trakflow.stages.checkpoints import import_checkpoint, train_checkpoint
from trakflow.stages.preconditions import check_experiment, check_imported

MODULE = '''
from torch import nn
from trakflow.errors import ConfigError
from trakflow.methods.base import CheckpointMethod, PlainMethod
from trakflow.tasks.classification import Classification


class Scaled(nn.Module):
    """Holds a parameter that no rule knows."""

    def __init__(self, **sizes):
        super().__init__()
        self.scale = nn.Parameter(__import__("torch").ones(64))
        self.head = nn.Linear(64, 10)

    def forward(self, inputs):
        return self.head(inputs.flatten(1) * self.scale)


class Careless(Classification):
    def curvature(self, raw, batch):
        return batch["weights"]


class Picky(CheckpointMethod):
    def __init__(self, least=0):
        self.least = least

    def check(self, planned):
        assert [len(array) for array in planned.trained.train.values()] == [2, 2]
        assert (planned.targets, list(planned.counts)) == (7, [1, 2, 3])
        if planned.examples < self.least:
            raise ConfigError(f"There are {planned.examples}.")

    def scores(self, trained):
        raise AssertionError


class Reading(PlainMethod):
    def __init__(self, path):
        open(path).close()

    def scores(self, n, m, seed):
        raise AssertionError
'''

TABLE = ("data.train_size=60", "data.target_count=7", "scores.topk=5", "evaluation.subsets=6", "checkpoints.count=2")


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's, known to no other test."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "planned_by_a_test.py").write_text(MODULE, encoding="utf8")
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    yield
    sys.modules.pop("planned_by_a_test", None)


FOUND = "This was found before any training, by an untrained model and 2 training examples"

IMPOSSIBLE = {
    "a module without a rule": (
        ["model._target_=planned_by_a_test.Scaled"],
        r"planned_by_a_test\.Scaled\) holds parameters \(scale\)",
    ),
    "parameters that are not there": (["sketch.parameters=['conv*']"], r"'conv\*' matches no parameter"),
    "a second stage larger than the first": (
        ["sketch=factorized", "sketch.side=2", "sketch.k=4000"],
        r"sketch\.k=4000 is not smaller than the \d+ features that side=2",
    ),
    "no ridge and as many features as parameters": (
        ["sketch=identity", "sketch.k=null", "solver.ridge=0", "solver.ridge_unit=absolute"],
        r"sketch=identity has 610 features for this model of 610 parameters, and data\.train_size is 60",
    ),
    "no ridge and more features than parameters": (
        ["sketch.k=40", "sketch.parameters=['*.bias']", "solver.ridge=0", "solver.ridge_unit=absolute"],
        r"has 40 features for this model of 18 parameters",
    ),
    "a published formula with more features than parameters": (
        [
            "paper=quick",
            "paper.epochs=[]",
            "data.target_count=10",
            "checkpoints.count=5",
            "sketch.k=40",
            "sketch.parameters=['*.bias']",
            "data.train_size=200",
        ],
        r"with k = 40; but this model has 18 parameters.*paper\.ablation=false",
    ),
    "a task that stumbles": (
        ["task._target_=planned_by_a_test.Careless"],
        r"`curvature` of the task Careless fails.*labels \(2,\)\): KeyError: 'weights'",
    ),
    "too few learning rates": (
        ["methods=[trak,tracin]", "method.tracin.make.learning_rates=[0.1,0.2]"],
        r"Method tracin .*2 entries, and there is a checkpoint number 2",
    ),
    "a method of another kind": (
        ["methods=[trak,tracin]", "method.tracin.reads=retrained"],
        r"method\.tracin reads retrained.*RetrainedMethod",
    ),
    "a sketch without k": (
        ["methods=[trak,gas]", "method.gas.make.sketch={name: sjlt}"],
        r"`method\.gas\.make` .*sketch=sjlt needs k",
    ),
    "gradients of targets that do not fit": (
        ["methods=[trak,gas]", "data.target_count=300", "runtime.memory_mb=1"],
        r"Method gas .*Gradients of 300 targets with 610 entries",
    ),
    "another unit of the damping": (
        ["methods=[trak,influence_function]", "method.influence_function.make.damping_unit=foo"],
        r"damping_unit=foo .* must be relative or absolute",
    ),
    "another curvature": (
        ["methods=[trak,influence_function]", "method.influence_function.make.curvature=hessian"],
        r"Method influence_function .*curvature=hessian must be loss or output",
    ),
    "more eigenvalues than iterations": (
        ["methods=[trak,influence_arnoldi]", "method.influence_arnoldi.make.iterations=5"],
        r"1 <= eigenvalues <= iterations, but has 100 and 5",
    ),
    "a layer that is not there": (
        ["methods=[trak,representation_similarity]", "method.representation_similarity.make.layer=head"],
        r"Method representation_similarity .*no module 'head'",
    ),
    "an argument that a method does not have": (
        ["methods=[trak,tracin]", "+method.tracin.make.rate=1"],
        r"`method\.tracin\.make` .*rate",
    ),
    "more features than parameters": (
        ["methods=[trak,traker]", "data.train_size=900", "method.traker.make.k=700"],
        r"Method traker .*k=700 and no ridge.*not larger than that of parameters \(610\)",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_a_later_job_would_refuse_is_refused_before_training(experiment, module, case):
    overrides, message = IMPOSSIBLE[case]
    run = experiment(*overrides).prepare()
    with pytest.raises(ConfigError, match=rf"(?s){message}.*{FOUND}"):
        run.run(check_experiment, checkpoint=1)


@pytest.mark.parametrize(("method", "package"), [("traker", "trak"), ("dattri", "dattri"), ("ekfac", "kronfluence")])
def test_a_missing_package_is_named_before_training(experiment, monkeypatch, method, package):
    monkeypatch.setattr("trakflow.extras.find_spec", lambda name: None)
    run = experiment(f"methods=[trak,{method}]").prepare()
    with pytest.raises(ConfigError, match=f"Method {method} .*package {package}, of trakflow's extra peers"):
        run.run(check_experiment, checkpoint=0)


def test_signs_without_labels_are_refused_before_training(experiment):
    run = experiment("methods=[trak,representation_similarity]", base="diabetes", small=TABLE).prepare()
    with pytest.raises(ConfigError, match=r"Method representation_similarity .*signed=false"):
        run.run(check_experiment, checkpoint=0)


@pytest.mark.parametrize(("weights", "refused"), [("on", True), ("off", False)])
def test_weights_that_a_task_does_not_have_are_refused_before_training(
    experiment, monkeypatch, tmp_path, weights, refused
):
    pytest.importorskip("transformers")
    speeches = ten_speeches()
    monkeypatch.setattr(sotu, "CHECKSUM", checksum(speeches))
    sizes = ("data.train.vocabulary=280", "data.train.length=6", "model.width=8", "model.layers=1", "model.heads=2")
    own = (f"data.train.folder={tarball(tmp_path / 'npm', speeches)}", f"solver.weights={weights}", "sketch.k=16")
    run = experiment(*own, base="sotu", small=(*TABLE[1:], "data.train_size=40", *sizes)).prepare()
    if refused:
        with pytest.raises(ConfigError, match=r"LogProbability defines no curvature.*solver\.weights=off"):
            run.run(check_experiment, checkpoint=0)
    else:
        run.run(check_experiment, checkpoint=0)


PAIRS = (
    *OVERRIDES,
    "task.simulated_batch_size=20",
    "scores.topk=5",
    "evaluation.subsets=6",
)


@pytest.mark.parametrize("method", ["influence_function", "influence_arnoldi", "ekfac"])
def test_a_loss_without_curvature_by_example_is_refused_before_training(experiment, method):
    if method == "ekfac":
        pytest.importorskip("kronfluence")
    run = experiment(f"methods=[trak,{method}]", base="fashion_clip", small=PAIRS).prepare()
    with pytest.raises(ConfigError, match=f"Method {method} .*loss of CLIP depends on which examples are in a batch"):
        run.run(check_experiment, checkpoint=0)
    run.configure().run(check_experiment, checkpoint=0)


ALL = (
    "methods=[trak,tracin,gas,representation_similarity,influence_function,influence_arnoldi,ekfac,traker,dattri,"
    "empirical_influence,datamodel,random]"
)


@pytest.mark.parametrize("sketch", ["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher"])
def test_what_can_be_done_is_not_refused(experiment, sketch):
    for package in ("kronfluence", "trak", "dattri"):
        pytest.importorskip(package)
    run = experiment(ALL, f"sketch={sketch}", *(["sketch.side=4"] if sketch == "factorized" else []))
    run.prepare().run(check_experiment, checkpoint=0)


def test_a_method_of_the_users_is_told_what_is_planned_and_one_that_reads_files_is_left_alone(
    experiment, module, tmp_path
):
    folder = tmp_path / "own" / "config" / "method"
    folder.mkdir(parents=True)
    for name, reads, rest in (("picky", "checkpoint", ""), ("reading", "neither", "  path: not/there\nfiles: [x]\n")):
        text = f"reads: {reads}\nmake:\n  _target_: planned_by_a_test.{name.title()}\n{rest}"
        (folder / f"{name}.yaml").write_text(text, encoding="utf8")
    run = experiment().prepare()
    run.config = compose_config("digits", [*run.small, "methods=[trak,picky,reading]"], [folder.parent])
    run.run(check_experiment, checkpoint=0)
    more = "+method.picky.make.least=61"
    run.config = compose_config("digits", [*run.small, "methods=[trak,picky]", more], [folder.parent])
    with pytest.raises(ConfigError, match=r"Method picky cannot attribute this experiment: There are 60\."):
        run.run(check_experiment, checkpoint=0)


def test_the_check_changes_neither_random_numbers_nor_checkpoints(experiment):
    run = experiment("methods=[trak,tracin,influence_function,random]", "sketch=sjlt").prepare()
    run.run(train_checkpoint, checkpoint=1)
    expected = Path(run.layout.checkpoint(1)).read_bytes()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run.run(check_experiment, checkpoint=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    run.run(train_checkpoint, checkpoint=1)
    assert Path(run.layout.checkpoint(1)).read_bytes() == expected


def test_an_imported_checkpoint_is_tried_with_its_weights(experiment, tmp_path):
    trained = experiment().prepare().train()
    files = ",".join(trained.layout.checkpoint(number) for number in trained.checkpoints)
    run = experiment(f"checkpoints.files=[{files}]", "checkpoints.count=null", name="imported").prepare()
    run.run(check_imported, checkpoint=2)
    run.run(import_checkpoint, checkpoint=2)
    run.configure(f"checkpoints.files=[{files}]", "checkpoints.count=null", "sketch.parameters=['conv*']")
    with pytest.raises(ConfigError, match=r"'conv\*' matches no parameter.*by the checkpoint and 2 training examples"):
        run.run(check_imported, checkpoint=2)


def test_the_script_that_trains_checks_first_once_and_outside_its_seconds(experiment, tmp_path):
    run = experiment().prepare()

    def script(*choices):
        arguments = [*run.small, *choices, f"job.results={run.layout.root}", "job.checkpoint=0", "job.log=job.log"]
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "workflow/scripts/train_checkpoint.py"), *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False,
        )  # fmt: skip
        return done.returncode, (tmp_path / "job.log").read_text(encoding="utf8")

    code, log = script("sketch.parameters=['conv*']")
    assert code == 1
    assert FOUND in log
    assert "took: " not in log
    assert not Path(run.layout.checkpoint(0)).exists()
    code, log = script("runtime.repeats=2")
    assert code == 0
    assert log.count("took: ") == 2
