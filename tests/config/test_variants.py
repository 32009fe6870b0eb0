"""The variants of the paper's figures."""

from dataclasses import replace

import pytest

from trakflow.config.compose import compose_config
from trakflow.config.stages import stage_settings
from trakflow.config.variants import (
    ablated_variants,
    cheap_variants,
    check_paper_figures,
    sized_variants,
    sketch_variants,
    variants,
)
from trakflow.errors import ConfigError
from trakflow.layout import STAGES

BASE = (
    "paper=fashion_mnist",
    "~paper.counts",
    "paper.trak_k=[]",
    "training.epochs=12",
    "checkpoints.count=4",
    "paper.epochs=[3,6,12]",
)


@pytest.fixture(scope="module")
def config():
    return compose_config("digits", BASE)


def test_an_experiment_has_none_unless_it_asks_for_the_papers_figures():
    assert variants(compose_config("digits")) == []


def test_every_variant_is_a_configuration_of_its_own(config):
    found = variants(config)
    assert len({variant.name for variant in found}) == len(found)
    named = {*sketch_variants(config).values(), *cheap_variants(config), *ablated_variants(config)}
    assert {variant.name for variant in found} == named
    for variant in found:
        own = compose_config("digits", [*BASE, *variant.overrides])
        assert own.methods == ["trak"]
        assert own.checkpoints.total == variant.checkpoints
        changed = (own.training, own.checkpoints) != (config.training, config.checkpoints)
        differs = {"checkpoints": changed, "scores": True}
        for stage, made in (("featurize", "features"), ("finalize", "kernels")):
            differs[made] = stage_settings(own, stage) != stage_settings(config, stage)
        assert variant.own_from == next(made for made in STAGES if differs[made]), variant.name


def test_a_sketch_of_another_kind_keeps_no_setting_of_the_first(config):
    chosen = {variant.name: variant for variant in variants(config)}
    for (sketch, k), name in sketch_variants(config).items():
        own = compose_config("digits", [*BASE, "sketch=sjlt", *chosen[name].overrides]).sketch
        assert (own.name, own.k) == (sketch, k)


def test_training_is_counted_in_passes_over_the_whole_training_set(config):
    passes = {
        variant.name: [variant.training_passes(count) for count in (1, 2, 3, 4)]
        for variant in variants(config)
        if variant.name in (*cheap_variants(config), "everything")
    }
    assert passes == {
        "whole_runs": [6, 12, 18, 24],
        "short_runs": [2, 4, 6, 8],
        "epochs_of_one_run": [1.5, 3, 6, 7.5],
        "epochs_of_all_runs": [1.5, 3, 6, 7.5],
        "everything": [12, 24, 36, 48],
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("paper.epochs=[13]", r"paper\.epochs=\[13\] asks for more than training\.epochs=12"),
        ("paper.epochs=[6,3]", r"paper: epochs=\[6, 3\] must ascend, each once"),
        ("checkpoints.epochs=[2,2]", r"epochs=\[2, 2\] must ascend"),
        ("checkpoints.epochs=[2,4]", r"several checkpoints\.epochs of a run were trained on the same"),
    ],
)
def test_epochs_that_cannot_be_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        compose_config("digits", [*BASE, override])


def test_only_the_largest_k_of_a_sketch_is_scored_at_each_ridge_of_the_figure(config):
    found = {variant.name for variant in variants(config) if variant.ridge_curve}
    assert found == {"tensor_sketch_2048", "sjlt_2048", "factorized_2048", "rademacher_2048", "gaussian_512"}
    for variant in variants(config):
        own = compose_config("digits", [*BASE, *variant.overrides])
        assert own.paper.ridges == (config.paper.ridges if variant.ridge_curve else None)


def test_a_sketch_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"paper\.sketches\.sparse"):
        compose_config("digits", [*BASE, "+paper.sketches.sparse=[64]"])


@pytest.mark.parametrize(
    ("overrides", "k"), [((), 359), (("sketch=sjlt", "sketch.nonzeros=2"), 358), (("sketch.k=128",), 128)]
)
def test_the_published_formula_has_fewer_features_than_examples_and_as_many_for_each_nonzero(overrides, k):
    base = [*BASE, *overrides]
    (variant,) = (found for found in variants(compose_config("digits", base)) if found.name == "published_formula")
    assert compose_config("digits", [*base, *variant.overrides]).sketch.k == k


def test_without_a_projection_there_is_no_published_formula():
    base = [*BASE, "sketch=identity", "paper.peer_k=64"]
    config = compose_config("digits", base)
    assert "published_formula" not in ablated_variants(config)
    check_paper_figures(config, lambda overrides: compose_config("digits", [*base, *overrides]))


def test_without_a_table_of_ablations_there_are_no_variants_for_it_alone():
    config = compose_config("digits", [*BASE, "paper.ablation=false"])
    assert ablated_variants(config) == {}
    assert {variant.name for variant in variants(config)} == {
        *sketch_variants(config).values(),
        *cheap_variants(config),
    }


def test_a_variant_that_cannot_be_is_named_with_what_it_changes():
    base = [*BASE, "solver=paper", "sketch.k=512", "paper.peer_k=64"]
    with pytest.raises(
        ConfigError, match=r"tensor_sketch_2048 .*sketch\.k=2048(.|\n)*solver\.ridge=0 needs sketch\.k=2048"
    ):
        check_paper_figures(
            compose_config("digits", base), lambda overrides: compose_config("digits", [*base, *overrides])
        )


def test_epochs_that_the_figure_of_cheap_checkpoints_varies_are_not_the_experiments():
    base = [*BASE, "checkpoints.epochs=[3,6]", "solver.ridge=1.0"]
    with pytest.raises(ConfigError, match=r"checkpoints\.epochs=\[3, 6\].*set it to null"):
        check_paper_figures(compose_config("digits", base), lambda overrides: compose_config("digits", base))


def test_trak_with_a_further_k_is_timed_and_shared_with_the_figure_of_sketches_where_that_shows_it(config):
    own = compose_config("digits", [*BASE, "paper.trak_k=[64,128]"])
    assert sized_variants(own) == {64: "tensor_sketch_64", 128: "tensor_sketch_128"}
    assert {variant.name for variant in variants(own)} == {variant.name for variant in variants(config)} | {
        "tensor_sketch_64"
    }
    assert {variant.name for variant in variants(own) if variant.timed} == {"tensor_sketch_64", "tensor_sketch_128"}
    # Nothing else of the variants is another, so that nothing is made again.
    before = {variant.name: replace(variant, timed=False) for variant in variants(config)}
    after = {variant.name: replace(variant, timed=False) for variant in variants(own)}
    assert {name: after[name] for name in before} == before
    assert after["tensor_sketch_64"].own_from == "features"
    assert not after["tensor_sketch_64"].ridge_curve


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("paper.trak_k=[128,512]", r"paper\.trak_k=\[128, 512\] holds sketch\.k=512.*leave it out"),
        ("paper.epoch_runs=[4,1]", r"epoch_runs=\[4, 1\] must ascend"),
        ("paper.epochs=[] paper.epoch_runs=[1]", r"epoch_runs=\[1\] says .*; set epochs, or it to null"),
        ("paper.trak_k=[128,64]", r"trak_k=\[128, 64\] must ascend"),
    ],
)
def test_numbers_that_say_nothing_or_are_out_of_order_are_refused(override, said):
    base = [*BASE, *override.split(), "sketch.k=512"]
    with pytest.raises(ConfigError, match=said):
        check_paper_figures(compose_config("digits", base), lambda overrides: compose_config("digits", base))


def test_epochs_are_of_as_many_runs_as_are_asked_for():
    own = compose_config("digits", [*BASE, "paper.epoch_runs=[2,4]"])
    found = {variant.name: variant.checkpoints for variant in variants(own) if variant.name.startswith("epochs")}
    assert found == {"epochs_of_2_runs": 6, "epochs_of_all_runs": 12}
    assert cheap_variants(own)["epochs_of_2_runs"] == "epochs 3, 6, 12 of each of 2 runs"


def test_the_relative_ridge_of_one_is_relative_whatever_the_experiments_is(config):
    absolute = compose_config("digits", [*BASE, "solver.ridge=5", "solver.ridge_unit=absolute"])
    chosen = [one for one in variants(absolute) if one.name in {*cheap_variants(absolute), "everything"}]
    assert len(chosen) == 5
    for variant in chosen:
        own = compose_config("digits", [*BASE, "solver.ridge_unit=absolute", *variant.overrides]).solver
        assert (own.ridge, own.ridge_unit) == (1.0, "relative"), variant.name
