"""The settings of the paper's figures, one for each setting of the paper and one for tests."""

import pytest

from trakflow.config.compose import compose_config
from trakflow.config.variants import ablated_variants, check_paper_figures, variants
from trakflow.errors import ConfigError

NAMES = ("digits", "fashion_mnist", "cifar2", "rotten_tomatoes", "cifar10", "qnli", "imagenet")
SETTINGS = [("digits", "quick"), *zip(NAMES, NAMES, strict=True)]

LARGE = ("cifar10", "qnli", "imagenet")
# What would take weeks, or not fit any memory; each file says why.
LEFT_OUT = {
    "rotten_tomatoes": {"influence_function"},
    "cifar10": {"influence_function"},
    "qnli": {"influence_function", "influence_arnoldi"},
    "imagenet": {"influence_function"},
}


@pytest.mark.parametrize(("experiment", "paper"), SETTINGS)
def test_a_setting_compares_every_method_that_there_is_and_its_variants(experiment, paper):
    config = compose_config(experiment, [f"paper={paper}"])
    compared = (
        "trak tracin gas representation_similarity influence_function influence_arnoldi ekfac traker dattri "
        "empirical_influence datamodel random"
    )
    left_out = LEFT_OUT.get(experiment, set())
    assert config.methods == [method for method in compared.split() if method not in left_out]
    assert config.runtime.repeats == 3
    assert len(variants(config)) > 5
    check_paper_figures(config, lambda overrides: compose_config(experiment, [f"paper={paper}", *overrides]))


@pytest.mark.parametrize(("experiment", "parameters"), [("cifar10", 2_300_000), ("imagenet", 11_700_000)])
def test_the_krylov_basis_of_a_large_model_fits_what_a_method_may_hold(experiment, parameters):
    config = compose_config(experiment, [f"paper={experiment}"])
    make = config.method["influence_arnoldi"].make
    assert 8 * parameters * (make["iterations"] + make["eigenvalues"]) < config.runtime.memory_mb * 2**20 // 2


@pytest.mark.parametrize("experiment", LARGE)
@pytest.mark.parametrize("method", ["tracin", "gas"])
def test_target_gradients_of_large_models_are_sketched_and_fit_what_a_method_may_hold(experiment, method):
    config = compose_config(experiment, [f"paper={experiment}"])
    sketch = config.method[method].make["sketch"]
    assert 4 * config.data.target_count * sketch["k"] < config.runtime.memory_mb * 2**20 // 2


@pytest.mark.parametrize("experiment", LARGE)
def test_an_ablation_table_that_does_not_fit_the_memory_is_refused_and_can_be_left_out(experiment):
    assert ablated_variants(compose_config(experiment, [f"paper={experiment}"])) == {}
    config = compose_config(experiment, [f"paper={experiment}", "paper.ablation=true"])
    with pytest.raises(ConfigError, match=r"ablation table.*runtime\.memory_mb.*paper\.ablation=false"):
        check_paper_figures(config, lambda overrides: config)


def test_published_points_stand_beside_the_settings_of_the_papers_size():
    for experiment, paper in SETTINGS:
        config = compose_config(experiment, [f"paper={paper}"])
        assert bool(config.figures.published) == (experiment in LARGE)
        known = set(config.methods) | LEFT_OUT.get(experiment, set())
        assert {point.method for point in config.figures.published} <= known


def test_what_the_paper_settings_say_is_not_taken_back_by_the_experiment():
    assert compose_config("cifar2", ["paper=cifar2"]).evaluation.subsets == 100
    make = compose_config("rotten_tomatoes", ["paper=rotten_tomatoes"]).method["influence_arnoldi"].make
    assert (make["iterations"], make["eigenvalues"]) == (20, 10)
    make = compose_config("digits", ["paper=quick"]).method["influence_arnoldi"].make
    assert (make["iterations"], make["eigenvalues"]) == (200, 100)
    assert compose_config("digits", ["paper=digits"]).method["traker"].make["k"] == 128


@pytest.mark.parametrize("method", ["tracin", "gas", "influence_arnoldi", "ekfac", "traker", "dattri"])
def test_the_paper_settings_choose_how_many_checkpoints_a_slow_method_takes(method):
    assert compose_config("digits", ["paper=quick"]).method[method].counts is None
    config = compose_config("digits", ["paper=quick", f"+paper.counts.{method}=[2]"])
    assert config.counts_of(method) == [2]


def test_without_paper_settings_there_are_none():
    assert compose_config("digits").paper is None
