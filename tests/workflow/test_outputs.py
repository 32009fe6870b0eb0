"""The output contract of results/README.md, read with numpy, pandas and pyarrow alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import yaml
from bs4 import BeautifulSoup
from run_snakemake import TINY, overrides, snakemake


def test_scores_are_a_float32_array_of_examples_by_targets(finished: Path) -> None:
    scores = np.load(finished / "results/digits/scores/trak.npy")
    assert scores.shape == (TINY["data.train_size"], TINY["data.target_count"])
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_provenance_names_config_versions_seed_and_ridges(finished: Path) -> None:
    provenance = json.loads((finished / "results/digits/scores/trak.json").read_text(encoding="utf8"))
    assert provenance["config"]["sketch"]["k"] == TINY["sketch.k"]
    assert provenance["seed"] == 0
    assert provenance["versions"]["torch"]
    assert provenance["stages"]["featurize"] >= 1
    assert "git_sha" in provenance
    assert [checkpoint["checkpoint"] for checkpoint in provenance["checkpoints"]] == [0, 1, 2]
    assert all(checkpoint["ridge"] > 0 for checkpoint in provenance["checkpoints"])
    assert provenance["ridge"]["rule"] == "self-LDS"
    assert len(provenance["ridge"]["curve"]["ridge"]) == len(provenance["ridge"]["curve"]["self_lds"])


def test_top_examples_agree_with_the_scores(finished: Path) -> None:
    table = pyarrow.parquet.read_table(finished / "results/digits/scores/trak.topk.parquet").to_pandas()
    scores = np.load(finished / "results/digits/scores/trak.npy")
    assert {"target", "target_id", "direction", "rank", "train_index", "train_id", "score", "train_label"} <= set(
        table.columns
    )
    assert len(table) == 2 * TINY["scores.topk"] * TINY["data.target_count"]
    np.testing.assert_array_equal(table["score"], scores[table["train_index"], table["target"]])
    best = table[(table["direction"] == "helpful") & (table["rank"] == 1)].sort_values("target")
    np.testing.assert_array_equal(best["score"], scores.max(axis=0))
    worst = table[(table["direction"] == "harmful") & (table["rank"] == 1)].sort_values("target")
    np.testing.assert_array_equal(worst["score"], scores.min(axis=0))


def test_the_lds_table_has_its_columns_in_order(finished: Path) -> None:
    table = pd.read_csv(finished / "results/digits/evaluation/lds.csv")
    expected = (
        "method checkpoints sketch k ridge weights lds ci_low ci_high ceiling subsets retrains featurize_seconds "
        "ridge_unit fitted_subsets"
    )
    assert list(table.columns) == expected.split()
    assert list(table["checkpoints"]) == [1, 3]
    assert (table["ci_low"] <= table["ci_high"]).all()
    assert (table["subsets"] == 8).all()
    assert (table["retrains"] == 2).all()


def test_each_figure_has_svg_png_and_csv(finished: Path) -> None:
    for name in ("gallery", "self_lds", "lds_vs_checkpoints", "predicted_vs_actual"):
        for suffix in ("svg", "png", "csv"):
            assert (finished / f"results/digits/figures/{name}.{suffix}").stat().st_size > 100


def test_the_resolved_configuration_is_written(finished: Path) -> None:
    config = yaml.safe_load((finished / "results/digits/config.yaml").read_text(encoding="utf8"))
    assert config["data"]["train_size"] == TINY["data.train_size"]


def test_logs_hold_no_progress_bars(finished: Path) -> None:
    logs = list((finished / "results/digits/logs").rglob("*.log"))
    assert len(logs) > 20
    assert not any("it/s" in log.read_text(encoding="utf8") or "\r" in log.read_text(encoding="utf8") for log in logs)


def embedded(page: BeautifulSoup, name: str) -> dict:
    """The JSON that the report's script of that id assigns to a variable."""
    text = page.find("script", id=name).string
    return json.JSONDecoder().raw_decode(text[text.index("= ") + 2 :])[0]


def test_the_report_holds_the_figures_with_captions_categories_and_labels(finished: Path) -> None:
    page = BeautifulSoup((finished / "results/digits/report.html").read_text(encoding="utf8"), "html.parser")
    results = {Path(path).stem: result for path, result in embedded(page, "results").items()}
    assert set(results) == {"gallery", "self_lds", "lds_vs_checkpoints", "predicted_vs_actual"}
    for result in results.values():
        assert result["labels"]["experiment"] == "digits"
        assert "seed 0, 3 checkpoints" in result["caption"]
        assert "{{" not in result["caption"]
    for name in ("lds_vs_checkpoints", "predicted_vs_actual"):
        assert "8 random subsets, 2 retrains each" in results[name]["caption"]
    assert set(embedded(page, "categories")) == {"Attributions", "Solver", "Evaluation"}


def test_scores_of_groups_are_written_and_drawn_where_they_are_asked_for(finished: Path, copy: Path) -> None:
    assert not list((finished / "results/digits/scores").glob("*groups*"))
    arguments = ["--cores", "2", "--report", "report.html", "--report-after-run"]
    snakemake(copy, overrides(TINY, {"scores.groups": "labels"}), arguments)
    scores = copy / "results/digits/scores"
    sums, dense = np.load(scores / "trak.groups.npy"), np.load(scores / "trak.npy")
    groups = pd.read_parquet(scores / "trak.groups.parquet")
    assert list(groups.columns) == ["group", "name", "size"]
    assert sums.shape == (len(groups), TINY["data.target_count"])
    np.testing.assert_allclose(sums.sum(axis=0), dense.sum(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-5)
    best = pd.read_parquet(scores / "trak.groups.topk.parquet")
    np.testing.assert_array_equal(best["score"], sums[best["group"], best["target"]])
    assert list(best["size"]) == groups["size"][best["group"]].tolist()
    for suffix in ("svg", "png", "csv"):
        assert (copy / f"results/digits/figures/top_groups.{suffix}").stat().st_size > 100
    page = BeautifulSoup((copy / "report.html").read_text(encoding="utf8"), "html.parser")
    captions = {Path(path).stem: result["caption"] for path, result in embedded(page, "results").items()}
    assert "groups are the classes" in captions["top_groups"]
    assert "seed 0, 3 checkpoints" in captions["top_groups"]
