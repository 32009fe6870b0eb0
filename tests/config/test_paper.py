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
    # Conjugate gradient would take days with the BERT.
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
