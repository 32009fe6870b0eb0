"""The settings of the paper's figures, one for each setting of the paper and one for tests."""

import pytest

from trakflow.config.compose import compose_config
from trakflow.config.variants import variants

NAMES = ("digits", "fashion_mnist", "cifar2", "rotten_tomatoes", "cifar10", "qnli", "imagenet")
SETTINGS = [("digits", "quick"), *zip(NAMES, NAMES, strict=True)]


@pytest.mark.parametrize(("experiment", "paper"), SETTINGS)
def test_a_setting_compares_every_method_that_there_is_and_its_variants(experiment, paper):
    config = compose_config(experiment, [f"paper={paper}"])
    compared = (
        "trak tracin gas representation_similarity influence_function influence_arnoldi ekfac traker dattri "
        "empirical_influence datamodel random"
    )
    # An iteration of conjugate gradient for all targets would take most of an hour with the BERT.
    left_out = {"influence_function"} if experiment == "rotten_tomatoes" else set()
    assert config.methods == [method for method in compared.split() if method not in left_out]
    assert config.runtime.repeats == 3
    assert len(variants(config)) > 5
    for variant in variants(config)[:1]:
        compose_config(experiment, [f"paper={paper}", *variant.overrides])


def test_published_points_stand_beside_the_settings_of_the_papers_size():
    for experiment, paper in SETTINGS:
        config = compose_config(experiment, [f"paper={paper}"])
        assert bool(config.figures.published) == (experiment in ("cifar10", "qnli", "imagenet"))
        assert {point.method for point in config.figures.published} <= set(config.methods)


def test_what_the_paper_settings_say_is_not_taken_back_by_the_experiment():
    assert compose_config("cifar2", ["paper=cifar2"]).evaluation.subsets == 100
    make = compose_config("rotten_tomatoes", ["paper=rotten_tomatoes"]).method["influence_arnoldi"].make
    assert (make["iterations"], make["eigenvalues"]) == (50, 25)
    make = compose_config("digits", ["paper=quick"]).method["influence_arnoldi"].make
    assert (make["iterations"], make["eigenvalues"]) == (200, 100)
    assert compose_config("digits", ["paper=digits"]).method["traker"].make["k"] == 128


def test_without_paper_settings_there_are_none():
    assert compose_config("digits").paper is None
