"""The example of a user's own model: run as its README says, in folders of its own, and broken in the usual ways."""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from run_snakemake import REPOSITORY, environment
from safetensors.torch import load_file
from torch.nn import functional

EXAMPLE = REPOSITORY / "examples" / "own_model"
# What is there where someone tried the example in place.
MADE = (".snakemake", "checkpoints", "results", "*.npy")
TRAIN_SIZE, TARGET_COUNT = 600, 50
# One checkpoint is enough where it is not the checkpoints that are looked at.
ONE = ["checkpoints.files=[checkpoints/0.pt]", "checkpoints.masks=null"]
# What is wrong with each of four checkpoints, and words of the sentence that says so and what to do.
BROKEN = {
    0: ["truncated.pt", "is truncated or not a checkpoint", "Copy or save it again"],
    1: ["narrow.pt", "'features.0.weight' has shape (4, 1, 3, 3)", "Make `model` the one that was trained"],
    2: ["code.pt", "never runs the code in a pickle", "Save `model.state_dict()` alone"],
    3: ["masks.npy", "values up to 2", "must be an array of 0 and 1 of shape (4, 600), one row a checkpoint"],
}


@dataclass(frozen=True)
class Checkout:
    """A copy of what a user clones, and what was in it: the copy shows what is written to it."""

    folder: Path
    contents: dict[str, str]


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def copy(source, destination, without=()):
    return Path(shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__", *without)))


def snakemake(checkout, folder, *arguments, fails=False):
    """Run Snakemake in a user's folder and return all that it said."""
    # -P, as the `snakemake` command does not search the working folder for modules either.
    command = [sys.executable, "-P", "-m", "snakemake", *arguments, "--nocolor"]
    paths = {**environment(), "PYTHONPATH": str(checkout.folder / "src")}
    done = subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def run(checkout, folder, *arguments, experiment="own_digits", overrides=(), fails=False):
    """Run trakflow's own Snakefile on the config folder of a user."""
    choice = [f"experiment={experiment}", "config_dirs=[config]", f"overrides={json.dumps(list(overrides))}"]
    own = ["--snakefile", str(checkout.folder / "Snakefile"), "--cores", "2", "--config", *choice]
    return snakemake(checkout, folder, *arguments, *own, fails=fails)


def jobs(output):
    table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total ", output, re.M | re.S)
    assert table, output
    return Counter({name: int(count) for name, count in map(str.split, table[1].splitlines()) if name != "all"})


def module_of(path):
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def predictions(folder, checkpoint):
    """Logits at the targets, by the example's own code."""
    path = folder / "checkpoints" / checkpoint
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    model = module_of(folder / "model.py").SmallCNN()
    model.load_state_dict(state.get("state_dict", state))
    images, _ = module_of(folder / "data.py").targets(TARGET_COUNT)
    with torch.no_grad():
        return model(torch.from_numpy(images).float())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkouts") / "trakflow checkout"
    for part in ("src", "config", "workflow", "envs"):
        copy(REPOSITORY / part, folder / part)
    shutil.copy2(REPOSITORY / "Snakefile", folder)
    return Checkout(folder, contents(folder))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The user's folder after training, not to be written to."""
    folder = copy(EXAMPLE, tmp_path_factory.mktemp("example") / "own_model", MADE)
    scripts = [
        subprocess.Popen([sys.executable, name], cwd=folder, env=environment()) for name in ("train.py", "retrain.py")
    ]
    assert [script.wait() for script in scripts] == [0, 0]
    return folder


@pytest.fixture
def untrained(tmp_path):
    return copy(EXAMPLE, tmp_path / "untrained", MADE)


@pytest.fixture(scope="module")
def in_folder(checkout, example, tmp_path_factory):
    """The first way of the README, finished; not to be written to."""
    folder = copy(example, tmp_path_factory.mktemp("in_folder") / "own_model")
    run(checkout, folder, "--report", "report.html", "--report-after-run")
    return folder


@pytest.fixture(scope="module")
def as_module(checkout, example, tmp_path_factory):
    """The second way of the README, by the experiment that adds the LDS, as far as it differs; not to be written to."""
    folder = copy(example, tmp_path_factory.mktemp("as_module") / "my own digits")
    wanted = [f"results/own_lds/figures/{name}.svg" for name in ("lds_vs_checkpoints", "predicted_vs_actual")]
    report = ["--report", "report.html", "--report-after-run"]
    snakemake(checkout, folder, *wanted, "--cores", "2", *report, "--config", "experiment=own_lds")
    return folder


@pytest.fixture(scope="module")
def with_own_task(checkout, example, tmp_path_factory):
    """Scores of one checkpoint by the example's own task, for the label 3 at all targets; not to be written to."""
    folder = copy(example, tmp_path_factory.mktemp("with_own_task") / "own_model")
    run(
        checkout,
        folder,
        "results/own_task/scores/trak.npy",
        experiment="own_task",
        overrides=[*ONE, "targets.output=3"],
    )
    return folder


class Code:
    def __reduce__(self):
        return Path.touch, (Path("code_was_run"),)


@pytest.fixture(scope="module")
def broken(checkout, example, tmp_path_factory):
    """The folder and what Snakemake said of checkpoints that are each wrong in another way."""
    folder = copy(example, tmp_path_factory.mktemp("broken") / "own_model")
    whole = (folder / "checkpoints/0.pt").read_bytes()
    (folder / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(module_of(folder / "model.py").SmallCNN(channels=4).state_dict(), folder / "narrow.pt")
    torch.save(
        {"state_dict": torch.load(folder / "checkpoints/0.pt", weights_only=True), "hook": Code()}, folder / "code.pt"
    )
    np.save(folder / "masks.npy", np.full((4, TRAIN_SIZE), 2))
    # The workflow has a score.py, too.
    (folder / "model.py").rename(folder / "score.py")
    files = ["model._target_=score.SmallCNN", "checkpoints.files=[truncated.pt,narrow.pt,code.pt,checkpoints/0.pt]"]
    kept = ["0.safetensors", "1.safetensors", "2.safetensors", "3.mask.npy"]
    wanted = [f"results/own_digits/checkpoints/{name}" for name in kept]
    return folder, run(checkout, folder, *wanted, "--keep-going", overrides=files, fails=True)


def test_scores_have_a_row_an_example_and_a_column_a_target(in_folder):
    scores = np.load(in_folder / "results/own_digits/scores/trak.npy")
    assert scores.shape == (TRAIN_SIZE, TARGET_COUNT)
    assert np.isfinite(scores).all()
    assert scores.std(axis=0).min() > 0


def test_top_examples_carry_the_users_labels(in_folder, example):
    table = pd.read_parquet(in_folder / "results/own_digits/scores/trak.topk.parquet")
    scores = np.load(in_folder / "results/own_digits/scores/trak.npy")
    np.testing.assert_array_equal(table["score"], scores[table["train_index"], table["target"]])
    data = module_of(example / "data.py")
    np.testing.assert_array_equal(table["target_label"], data.targets(TARGET_COUNT)[1][table["target"]])
    np.testing.assert_array_equal(table["train_label"], data.train(TRAIN_SIZE).labels[table["train_index"]])


def test_masks_let_the_ridge_be_chosen_by_the_self_lds(in_folder):
    assert '"self-LDS"' in (in_folder / "results/own_digits/ridge/3.json").read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("finished_run", "experiment", "figures"),
    [
        ("in_folder", "own_digits", ["gallery", "self_lds"]),
        ("as_module", "own_lds", ["lds_vs_checkpoints", "predicted_vs_actual"]),
    ],
)
def test_figures_and_report_are_made(finished_run, experiment, figures, request):
    folder = request.getfixturevalue(finished_run)
    html = (folder / "report.html").read_text(encoding="utf8")
    for name in figures:
        assert (folder / f"results/{experiment}/figures/{name}.png").stat().st_size > 100
        assert f"results/{experiment}/figures/{name}.svg" in html


@pytest.mark.parametrize("name", ["trak.npy", "trak.topk.parquet"])
def test_a_module_gives_the_same_bytes_as_a_config_folder(in_folder, as_module, name):
    mine, theirs = (in_folder / f"results/own_digits/scores/{name}", as_module / f"results/own_lds/scores/{name}")
    assert mine.read_bytes() == theirs.read_bytes()


def test_the_lds_is_evaluated_by_masks_and_outputs_made_elsewhere(as_module):
    table = pd.read_csv(as_module / "results/own_lds/evaluation/lds.csv")
    assert list(table["checkpoints"]) == [1, 3]
    assert list(table["subsets"]) == [12, 12]
    assert list(table["retrains"]) == [1, 1]
    assert table["lds"].between(-1, 1).all()
    assert not (as_module / "results/own_lds/evaluation/models").exists()


def test_rules_of_the_users_own_make_what_the_module_reads(checkout, untrained):
    planned = jobs(snakemake(checkout, untrained, "--cores", "2", "--dry-run"))
    assert planned["train"] == 1
    assert planned["retrain"] == 0
    assert planned["trakflow_import_checkpoint"] == 3
    assert planned["trakflow_score"] == 1


def test_two_experiments_fit_in_one_workflow(checkout, example, tmp_path):
    folder = copy(example, tmp_path / "two")
    (folder / "Snakefile").write_text(
        "from trakflow.config.compose import CONFIG_ROOT\n"
        + "".join(
            f'module {name}:\n    snakefile: str(CONFIG_ROOT.parent / "Snakefile")\n'
            f'    config: {{"experiment": "{name}", "config_dirs": ["config"]}}\n'
            f"use rule * from {name} as {name}_*\n"
            for name in ("own_digits", "own_task")
        )
        + "rule all:\n    default_target: True\n    input: rules.own_digits_all.input, rules.own_task_all.input\n",
        encoding="utf8",
    )
    output = snakemake(checkout, folder, "--cores", "2", "--dry-run", "--printshellcmds")
    planned = jobs(output)
    assert planned["own_digits_score"] == planned["own_task_score"] == 1
    for experiment in ("own_digits", "own_task"):
        commands = [line for line in output.splitlines() if f"job.log=results/{experiment}/" in line]
        assert len(commands) == planned.total() // 2
        assert all(f" experiment={experiment} " in line for line in commands)


def test_a_task_of_the_users_own_scores_by_its_definition(with_own_task):
    results = with_own_task / "results/own_task"
    train, targets = results / "features/0/0.safetensors", results / "target_features/0.safetensors"
    expected = functional.log_softmax(predictions(with_own_task, "0.pt"), dim=1)[:, 3]
    torch.testing.assert_close(load_file(targets)["outputs"], expected, rtol=1e-4, atol=1e-5)

    arrays = load_file(train)
    assert (arrays["loss_gradients"] == 1).all()
    assert "curvatures" not in arrays
    phi = arrays["features"].double()
    # The default ridge of a single checkpoint: once the mean diagonal of the Gram matrix.
    gram = phi.T @ phi
    gram += gram.diagonal().mean() * torch.eye(len(gram))
    scores = phi @ torch.linalg.solve(gram, load_file(targets)["features"].double().T)
    np.testing.assert_allclose(np.load(results / "scores/trak.npy"), scores, rtol=1e-3, atol=1e-4 * scores.abs().max())


def test_a_task_without_curvature_is_told_to_turn_the_weights_off(checkout, with_own_task, tmp_path):
    folder = copy(with_own_task, tmp_path / "weighted")
    kernel = "results/own_task/kernels/0.safetensors"
    output = run(checkout, folder, kernel, overrides=[*ONE, "solver.weights=on"], experiment="own_task", fails=True)
    assert "solver.weights=off" in output
    assert "results/own_task/logs/finalize/0.log" in output
    assert "Traceback" not in output


def test_predicted_labels_wait_for_the_checkpoints_and_true_ones_do_not(checkout, example, tmp_path):
    folder = copy(example, tmp_path / "targets")
    targets = "results/own_digits/data/targets.safetensors"
    assert jobs(run(checkout, folder, targets, "--dry-run")) == Counter(prepare_targets=1)
    planned = jobs(run(checkout, folder, targets, "--dry-run", overrides=["targets.output=predicted"]))
    # A checkpoint is tried on two training examples before it is imported.
    assert planned == Counter(prepare_train=1, prepare_targets=1, import_checkpoint=3)


def test_predicted_labels_are_those_of_most_checkpoints(checkout, in_folder, tmp_path):
    folder = copy(in_folder, tmp_path / "predicted")
    targets = "results/own_digits/data/targets.safetensors"
    output = run(checkout, folder, targets, overrides=["targets.output=predicted"])
    assert jobs(output) == Counter(prepare_targets=1)
    arrays = {name: value.numpy() for name, value in load_file(folder / targets).items()}
    votes = np.stack([predictions(folder, name).argmax(dim=1).numpy() for name in ("0.pt", "1.pt", "2.safetensors")])
    counts = (votes[:, :, None] == np.arange(10)).sum(axis=0)
    np.testing.assert_array_equal(arrays["attributed_labels"], counts.argmax(axis=1))
    assert (arrays["attributed_labels"] != arrays["labels"]).any()


def test_a_chosen_label_is_attributed_at_every_target(with_own_task):
    targets = load_file(with_own_task / "results/own_task/data/targets.safetensors")
    assert (targets["attributed_labels"] == 3).all()
    assert len(targets["labels"].unique()) == 10


@pytest.mark.parametrize("checkpoint", BROKEN)
def test_a_broken_checkpoint_is_refused_with_a_sentence(broken, checkpoint):
    folder, output = broken
    rule, kept = ("import_mask", "mask.npy") if checkpoint == 3 else ("import_checkpoint", "safetensors")
    log = f"results/own_digits/logs/{rule}/{checkpoint}.log"
    sentence = (folder / log).read_text(encoding="utf8").strip()
    assert len(sentence.splitlines()) == 1
    for words in BROKEN[checkpoint]:
        assert words in sentence
    assert sentence in output
    assert log in output
    assert "Traceback" not in output
    assert not (folder / f"results/own_digits/checkpoints/{checkpoint}.{kept}").exists()


def test_a_users_module_may_be_called_like_a_script_of_the_workflow(broken):
    folder, output = broken
    assert (REPOSITORY / "workflow/scripts/score.py").is_file()
    assert (folder / "score.py").is_file()
    assert "cannot be made" not in output


def test_masks_of_another_number_of_checkpoints_are_refused_before_any_job_runs(checkout, untrained):
    folder = untrained
    (folder / "checkpoints").mkdir(exist_ok=True)
    for number in range(4):
        (folder / f"checkpoints/{number}.pt").touch()
    np.save(folder / "masks.npy", np.zeros((3, TRAIN_SIZE)))
    files = "checkpoints.files=[checkpoints/0.pt,checkpoints/1.pt,checkpoints/2.pt,checkpoints/3.pt]"
    output = run(checkout, folder, overrides=[files], fails=True)
    assert (
        f"checkpoints.masks: masks.npy has shape (3, {TRAIN_SIZE}), and this experiment needs (4, {TRAIN_SIZE})"
        in output
    )
    assert not (folder / "results").exists()


def test_code_in_a_pickle_is_not_run(broken):
    folder, _ = broken
    assert not (folder / "code_was_run").exists()


def test_missing_files_are_named_before_any_job_runs(checkout, untrained):
    overrides = ["checkpoints.files=[checkpoints/0.pt,model.py]", "evaluation.outputs=outputs.npy"]
    output = run(checkout, untrained, overrides=overrides, experiment="own_lds", fails=True)
    for words in (
        "checkpoints.files[0]: checkpoints/0.pt",
        "checkpoints.masks: masks.npy",
        "evaluation.masks: subset_masks.npy",
        "evaluation.outputs: outputs.npy",
        f"looked from {untrained.resolve()}",
        "correct the paths",
    ):
        assert words in output
    assert "checkpoints.files[1]" not in output
    assert "Traceback" not in output
    assert not (untrained / "results").exists()


def test_a_file_that_no_rule_makes_is_named_before_any_job_runs_in_a_module(checkout, untrained):
    overrides = "overrides=['checkpoints.files=[checkpoints/7.pt]']"
    output = snakemake(checkout, untrained, "--cores", "2", "--config", overrides, fails=True)
    assert "MissingInputException" in output
    assert "checkpoints/7.pt" in output
    assert "Traceback" not in output
    assert not (untrained / "results").exists()


def test_nothing_was_written_to_the_checkout(checkout, in_folder, as_module, with_own_task, broken):
    assert contents(checkout.folder) == checkout.contents


def test_a_changed_module_of_the_users_makes_what_it_made_again(checkout, in_folder, tmp_path):
    folder = copy(in_folder, tmp_path / "changed")
    assert "Nothing to be done" in run(checkout, folder, "--dry-run")
    with (folder / "model.py").open("a", encoding="utf8") as file:
        file.write("# another architecture, say\n")
    planned = jobs(run(checkout, folder, "--dry-run"))
    assert planned["import_checkpoint"] == 3
    assert planned["featurize"] == 3
    assert "prepare_train" not in planned
