"""The paper's figures: what they ask for, and a whole run of them on digits (make test-figures)."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from run_snakemake import overrides, planned, snakemake

from trakflow.config.compose import compose_config
from trakflow.config.variants import variants

FIGURES = (
    "lds_vs_compute", "lds_vs_checkpoints", "sketches", "ablation", "cheap_checkpoints", "removal", "gallery"
)  # fmt: skip
OF_WRONG_LABELS = ("mislabel", "gallery")
FORMS = ("svg", "png", "pdf", "csv", "txt", "json")
COLUMNS = ["method", "checkpoints", "seconds", "forward_backward_equivalents", "lds", "ci_low", "ci_high"]
PAPER = ("--cores", "2", "paper_figures")


def test_an_experiment_without_such_figures_says_how_to_have_them(tmp_path: Path) -> None:
    done = snakemake(tmp_path, [], [*PAPER, "--dry-run"], experiment="sotu", check=False)
    assert done.returncode != 0
    assert "config/paper/sotu.yaml" in done.stdout + done.stderr
    assert "--config experiment=sotu 'overrides=[\"paper=fashion_mnist\"]'" in done.stdout + done.stderr


def test_none_of_them_where_none_are_asked_for(tmp_path: Path) -> None:
    done = snakemake(tmp_path, ["paper=none"], [*PAPER, "--dry-run"], check=False)
    assert done.returncode != 0
    assert "paper=none asks for no figures" in done.stdout + done.stderr


def test_without_a_setting_it_is_that_of_the_experiments_name(tmp_path: Path) -> None:
    config = compose_config("digits", ["paper=digits"])
    plan = planned(tmp_path, [], PAPER)
    assert plan["variant"] == len(variants(config))
    assert plan["draw_paper"] == len(FIGURES)
    assert plan["attribute_traker"] == 1


def test_they_ask_for_every_method_and_every_variant(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["paper=quick"], PAPER)
    config = compose_config("digits", ["paper=quick"])
    assert plan["variant"] == len(variants(config))
    assert plan["draw_paper"] == len(FIGURES)
    assert plan["forward_backward"] == plan["compute"] == plan["ablate"] == plan["evaluate"] == 1
    reading = [name for name, method in config.method.items() if method.reads == "checkpoint"]
    assert plan["attribute_checkpoint"] == 5 * len(reading)
    assert {f"attribute_{name}" for name in config.method} <= set(plan)


def test_a_variant_that_cannot_be_stops_the_figures_before_any_job_and_not_the_experiment(tmp_path: Path) -> None:
    settings = ["paper=quick", "solver=paper", "sketch.k=512", "paper.sketches.sjlt=[2048]"]
    done = snakemake(tmp_path, settings, [*PAPER, "--dry-run"], check=False)
    assert done.returncode != 0
    assert "variant sjlt_2048" in done.stdout + done.stderr
    assert planned(tmp_path, settings)["score"] == 1


def test_the_default_target_asks_for_none_of_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["paper=quick"])
    assert not {"variant", "draw_paper", "forward_backward", "compute", "ablate"} & set(plan)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    snakemake(folder, overrides({"paper": "quick"}), PAPER)
    return folder / "results" / "digits"


def texts_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The captions of figures that are there in every form, and no empty image."""
    for name in names:
        for form in FORMS:
            assert (folder / f"{name}.{form}").stat().st_size > 0, (name, form)
        with Image.open(folder / f"{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 1
    return {name: (folder / f"{name}.txt").read_text(encoding="utf8") for name in names}


@pytest.mark.figures
def test_every_figure_is_there_in_every_form(drawn: Path) -> None:
    for name, text in texts_of(drawn / "paper", FIGURES).items():
        for fact in ("1,437 training examples", "6,570 trained parameters", "300 targets", "5 checkpoints", "seed 0"):
            assert fact in text, (name, fact)
        assert "cores" in text
        assert ("50 subsets with 2 retrains" in text) == (name not in ("removal", "gallery"))


@pytest.mark.figures
def test_predictions_flip_without_what_trak_ranks_highest_and_not_without_random_examples(drawn: Path) -> None:
    table = pd.read_csv(drawn / "paper" / "removal.csv").set_index(["method", "removed"])
    config = compose_config("digits", ["paper=quick"])
    assert set(table.index.get_level_values("method")) == set(config.methods)
    assert table.loc[("trak", 50), "flipped"] > table.loc[("random", 50), "flipped"] + 0.2


@pytest.mark.figures
def test_wrong_labels_are_found_and_their_figure_is_drawn(tmp_path: Path) -> None:
    snakemake(tmp_path, overrides({"checkpoints.count": 3}), PAPER, "digits_mislabelled")
    folder = tmp_path / "results" / "digits_mislabelled" / "paper"
    texts_of(folder, OF_WRONG_LABELS)
    found = pd.read_csv(folder / "mislabel.csv").groupby("method")[["average_precision", "ci_low", "ci_high"]].first()
    assert found.loc["trak", "ci_low"] > found.loc["random", "ci_high"]


@pytest.mark.figures
def test_every_method_has_its_lds_and_what_it_cost(drawn: Path) -> None:
    table = pd.read_csv(drawn / "paper" / "lds_vs_compute.csv")
    assert set(COLUMNS) <= set(table.columns)
    config = compose_config("digits", ["paper=quick"])
    shown = list(dict.fromkeys(table["method"]))
    assert shown == ["trak", "trak (k = 128)", *config.methods[1:]]
    known = table[table["method"] != "random"]
    assert (known["seconds"] > 0).all()
    assert (known["seconds_low"] <= known["seconds"]).all()
    assert (known["seconds"] <= known["seconds_high"]).all()
    assert table[table["method"] == "random"]["seconds"].isna().all()
    for _, rows in known[known["checkpoints"] > 0].groupby("method"):
        assert (rows["training_seconds"].diff().dropna() > 0).all()
    unit = json.loads((drawn / "evaluation" / "forward_backward.json").read_text(encoding="utf8"))["seconds"]
    np.testing.assert_allclose(known["forward_backward_equivalents"], known["seconds"] / unit)
    assert (known[known["checkpoints"] > 0]["training_seconds"] > 0).all()
    assert set(known[known["checkpoints"] > 0]["repeats"]) == {3}


@pytest.mark.figures
def test_the_method_itself_is_the_same_in_every_table(drawn: Path) -> None:
    lds = pd.read_csv(drawn / "evaluation" / "lds.csv").set_index(["method", "checkpoints"])["lds"]
    ablated = pd.read_csv(drawn / "paper" / "ablation.csv").set_index("variant")["lds"]
    assert ablated["TRAK"] == pytest.approx(lds["trak", 5], abs=1e-3)
    sketches = pd.read_csv(drawn / "paper" / "sketches.csv")
    by_k = sketches[(sketches["against"] == "k") & (sketches["sketch"] == "tensor_sketch") & (sketches["k"] == 512)]
    assert float(by_k["lds"].iloc[0]) == pytest.approx(lds["trak", 5], abs=1e-6)
    # What the paper says of its own ablation, on data where it is far from the noise.
    assert ablated["TRAK"] > ablated["without the kernel"]
    assert ablated["TRAK"] > lds["random", 0] + 0.2


def test_an_experiment_with_wrong_labels_has_their_figure_and_no_lds(tmp_path: Path) -> None:
    plan = planned(tmp_path, [], PAPER, "digits_mislabelled")
    assert plan["evaluate_mislabel"] == plan["forward_backward"] == 1
    assert plan["draw_paper"] == len(OF_WRONG_LABELS)
    assert not {"variant", "compute", "evaluate", "retrain"} & set(plan)
