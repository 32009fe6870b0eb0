"""What a change makes run again: named exactly, by dry runs on a finished experiment."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from run_snakemake import REPOSITORY, TINY, overrides, planned, snakemake

FIGURES = {"draw_gallery": 1, "draw_self_lds": 1, "draw_lds_vs_checkpoints": 1, "draw_predicted_vs_actual": 1}
# The record of the configuration is a leaf: it follows every change, and nothing follows from it.
RECORD = {"describe": 1}
FROM_RIDGE = {"choose_ridge": 1, "score": 1, "score_partial": 1, "evaluate": 1, **FIGURES}

CHANGES = {
    "nothing": ({}, {}),
    "a checkpoint more": (
        {"checkpoints.count": 4, "evaluation.checkpoint_counts": "[1,3]"},
        # The scores of the first three were the published ones; they are needed once more as an intermediate point.
        {
            "train_checkpoint": 1,
            "featurize": 2,
            "featurize_targets": 1,
            "finalize": 1,
            "choose_ridge": 1,
            "score": 1,
            "score_partial": 1,
            "evaluate": 1,
            **FIGURES,
            **RECORD,
        },
    ),
    "more targets": (
        {"data.target_count": 15},
        {"prepare_targets": 1, "featurize_targets": 3, "retrained_outputs": 2, **FROM_RIDGE, **RECORD},
    ),
    "another ridge": ({"solver.ridge": 0.5}, {**FROM_RIDGE, **RECORD}),
    "another k": ({"sketch.k": 36}, {"featurize": 6, "featurize_targets": 3, "finalize": 3, **FROM_RIDGE, **RECORD}),
    "another plot style": ({"figures.font_size": 11}, {**FIGURES, **RECORD}),
    "a retrain more": (
        {"evaluation.retrains": 3},
        {"retrain": 1, "retrained_outputs": 1, "evaluate": 1, **FIGURES, **RECORD},
    ),
    "weights off": ({"solver.weights": "off"}, {"finalize": 3, **FROM_RIDGE, **RECORD}),
    "another batch size, device setting and thread count": ({"runtime.batch_size": 7, "runtime.threads": 2}, {}),
    "scores of groups": (
        {"scores.groups": "labels"},
        {
            "score": 1,
            "draw_top_groups": 1,
            "evaluate": 1,
            **{name: 1 for name in FIGURES if name != "draw_self_lds"},
            **RECORD,
        },
    ),
    "removal of examples": (
        {"removal.counts": "[2,5]", "removal.targets": 3, "removal.retrains": 2},
        {
            "retrain_on_all": 2,
            # Two numbers of examples, by TRAK and at random.
            "remove": 4,
            "retrain_without": 8,
            "evaluate_removal": 1,
            "draw_removal": 1,
            **RECORD,
        },
    ),
    "one after another instead of an ensemble": ({"training.ensemble": "false"}, RECORD),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_exactly_the_rules_that_read_it(finished: Path, name: str) -> None:
    change, expected = CHANGES[name]
    assert planned(finished, overrides(TINY, change)) == Counter(expected)


def test_the_number_of_cores_reruns_nothing(finished: Path) -> None:
    assert planned(finished, overrides(TINY), ["--cores", "1"]) == Counter()


def test_a_new_version_of_a_stage_reruns_what_it_made(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The package as a change of method would leave it: a copy with one number raised, found before the installed one.
    for part in ("src", "config", "workflow", "envs"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    stages = tmp_path / "src" / "trakflow" / "config" / "stages.py"
    text = stages.read_text(encoding="utf8")
    raised, count = re.subn(r'"finalize": \d+,', '"finalize": 99,', text)
    assert count == 1
    stages.write_text(raised, encoding="utf8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))
    assert planned(finished, overrides(TINY)) == Counter({"finalize": 3, **FROM_RIDGE})


def test_changed_scores_of_the_users_are_noticed(copy: Path) -> None:
    scores = copy / "scores.npy"
    np.save(scores, np.load(copy / "results" / "digits" / "scores" / "trak.npy"))
    choices = overrides(TINY, {"methods": "[trak,external]", "method.external.make.path": scores.name})
    snakemake(copy, choices)
    assert planned(copy, choices) == {}
    np.save(scores, -np.load(scores))
    assert planned(copy, choices) == {"attribute_external": 1, "evaluate": 1, "draw_lds_vs_checkpoints": 1}


def test_a_changed_file_of_the_users_data_is_noticed(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.touch()
    choices = overrides(TINY, {"data.files": f"[{data.name}]"})
    # One of each that reads the data: the rest follows from these.
    made = ("data/targets.safetensors", "checkpoints/0.safetensors", "evaluation/models/0/0.safetensors")
    arguments = [*(f"results/digits/{path}" for path in made), "--cores", "2"]
    snakemake(tmp_path, choices, arguments)
    assert planned(tmp_path, choices, arguments) == {}
    data.write_text("1")
    expected = {"prepare_train": 1, "prepare_targets": 1, "train_checkpoint": 1, "retrain": 1}
    assert planned(tmp_path, choices, arguments) == expected
