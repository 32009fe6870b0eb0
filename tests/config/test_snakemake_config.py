import shlex

import pytest
from snakemake.cli import parse_config
from snakemake.spawn_jobs import format_cli_arg

from trakflow.config.snakemake_config import Choice, check_snakemake_config, with_overrides, with_paper_figures
from trakflow.errors import ConfigError


def test_nothing_given_is_the_digits_experiment():
    choice = check_snakemake_config({})
    assert (choice.experiment, choice.overrides, choice.config_dirs) == ("digits", [], [])


def test_the_keys_are_taken():
    overrides = ["sketch.k=64", "+data.train.experiment=3", "+model.job=x"]
    given = {"experiment": "my-exp_1.2", "overrides": overrides, "config_dirs": ["conf"], "container": "a.sif"}
    assert check_snakemake_config(given).model_dump() == given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"experimnt": "digits"}, "experimnt: there is no such setting"),
        ({"sketch.k": 3}, r"sketch\.k: there is no such setting"),
        ({"experiment": "a/b"}, "experiment: "),
        ({"experiment": ""}, "experiment: "),
        ({"experiment": "digits.yaml"}, "experiment: give the name alone: digits"),
        ({"experiment": 3}, "experiment: "),
        ({"overrides": 3}, r"overrides: .*\(given: 3\)"),
        ({"overrides": [3]}, r"overrides\.0: .*\(given: 3\)"),
        ({"overrides": ["experiment=diabetes"]}, r"overrides: `experiment=diabetes`.* --config experiment=diabetes"),
        ({"overrides": ["seed=1", "+experiment=diabetes"]}, r"--config experiment=diabetes"),
        ({"overrides": ["~experiment"]}, r"--config experiment=<name>"),
        (
            {"overrides": ["job.results=elsewhere"]},
            r"overrides: `job\.results=elsewhere`: the rules set `job` and `hydra`",
        ),
        ({"overrides": ["++job.count=3"]}, r"`\+\+job\.count=3`: the rules set `job` and `hydra`"),
        ({"overrides": ["hydra.run.dir=elsewhere"]}, r"`hydra\.run\.dir=elsewhere`: the rules set `job` and `hydra`"),
        ({"overrides": ["hydra/job_logging=default"]}, r"`hydra/job_logging=default`: the rules set `job` and `hydra`"),
        ({"config_dirs": {"a": 1}}, "config_dirs: "),
        ({"container": 1}, "container: "),
    ],
)
def test_anything_else_is_refused_with_what_is_possible(given, message):
    with pytest.raises(ConfigError, match=message) as refused:
        check_snakemake_config(given)
    for key in ("experiment", "overrides", "config_dirs", "container"):
        assert key in str(refused.value)


def test_paper_figures_take_the_settings_that_are_named_as_the_experiment():
    assert with_paper_figures(Choice(overrides=["seed=1"])).overrides == ["paper=digits", "seed=1"]
    chosen = Choice(experiment="cifar2", overrides=["paper=quick"])
    assert with_paper_figures(chosen) == chosen


def test_paper_figures_leave_an_experiment_the_settings_that_it_names(tmp_path):
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\npaper: {sketches: {sjlt: [64]}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(own, encoding="utf8")
    chosen = Choice(experiment="mine", config_dirs=[str(tmp_path)])
    assert with_paper_figures(chosen) == chosen
    (tmp_path / "experiment" / "plain.yaml").write_text("# @package _global_\n{}\n", encoding="utf8")
    plain = Choice(experiment="plain", config_dirs=[str(tmp_path)])
    with pytest.raises(ConfigError, match=r"no config/paper/plain\.yaml says which.*digits, .*fashion_mnist"):
        with_paper_figures(plain)
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "plain.yaml").write_text("# @package _global_\npaper: {}\n", encoding="utf8")
    assert with_paper_figures(plain).overrides == ["paper=plain"]


def test_jobs_that_snakemake_starts_elsewhere_get_the_overrides():
    given = ["experiment=digits", 'overrides=["seed=1"]', "container=image.sif"]
    overrides = ["paper=digits", "seed=1", "model.widths=[8,4]"]
    line = format_cli_arg("--config", with_overrides(given, overrides))
    found = check_snakemake_config(parse_config(shlex.split(line)[1:]))
    assert found == Choice(experiment="digits", overrides=overrides, container="image.sif")
