import pytest

from trakflow.config.snakemake_config import check_snakemake_config
from trakflow.errors import ConfigError


def test_nothing_given_is_the_digits_experiment():
    choice = check_snakemake_config({})
    assert (choice.experiment, choice.overrides, choice.config_dirs) == ("digits", [], [])


def test_the_keys_are_taken():
    given = {"experiment": "my-exp_1.2", "overrides": ["sketch.k=64"], "config_dirs": ["conf"], "container": "a.sif"}
    assert check_snakemake_config(given).model_dump() == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"experimnt": "digits"}, "experimnt: there is no such setting"),
        ({"sketch.k": 3}, r"sketch\.k: there is no such setting"),
        ({"experiment": "a/b"}, "experiment: "),
        ({"experiment": ""}, "experiment: "),
        ({"experiment": 3}, "experiment: "),
        ({"overrides": 3}, r"overrides: .*\(given: 3\)"),
        ({"overrides": [3]}, r"overrides\.0: .*\(given: 3\)"),
        ({"config_dirs": {"a": 1}}, "config_dirs: "),
        ({"container": 1}, "container: "),
    ],
)
def test_anything_else_is_refused_with_what_is_possible(given, message):
    with pytest.raises(ConfigError, match=message) as refused:
        check_snakemake_config(given)
    for key in ("experiment", "overrides", "config_dirs", "container"):
        assert key in str(refused.value)
