"""Settings of methods: in a method's file, in an experiment and on the command line, of which the last said wins."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from trakflow.config.compose import compose_config
from trakflow.config.method_settings import literal
from trakflow.errors import ConfigError

SETTINGS = """
  tracin: {counts: [1], make: {learning_rates: 0.9, sketch: {name: sjlt, k: 64}}}
  influence_function: {make: {damping: 0.1}}
"""


@pytest.fixture
def compose(tmp_path):
    """Compose an experiment of a folder of its own, with what is given as its section `method`."""
    (tmp_path / "experiment").mkdir()

    def composed(*overrides, settings=SETTINGS):
        text = "# @package _global_\ndefaults: [digits]\nmethods: [trak, tracin, influence_function]\nmethod:"
        (tmp_path / "experiment" / "mine.yaml").write_text(text + settings)
        return compose_config("mine", overrides, [tmp_path])

    return composed


def test_an_experiment_wins_over_the_files_of_methods(compose):
    found = compose().method
    assert found["tracin"].counts == [1]
    assert found["tracin"].make == {
        "_target_": "trakflow.methods.tracin.TracIn",
        "learning_rates": 0.9,
        "sketch": {"name": "sjlt", "k": 64},
    }
    own = compose_config("digits", ["methods=[trak,influence_function]"]).method["influence_function"].make
    assert found["influence_function"].make == {**own, "damping": 0.1}


def test_the_command_line_wins_over_an_experiment_even_with_what_a_file_says(compose):
    given = ["method.tracin.make.learning_rates=${training.learning_rate}", "method.tracin.make.sketch.k=32"]
    found = compose(*given, "+method.tracin.make.own=1", "~method.influence_function.make.tolerance").method
    assert found["tracin"].make["learning_rates"] == compose_config("digits").training.learning_rate
    assert found["tracin"].make["sketch"] == {"name": "sjlt", "k": 32}
    assert found["tracin"].make["own"] == 1
    assert "tolerance" not in found["influence_function"].make
    assert found["influence_function"].make["damping"] == 0.1


@pytest.mark.parametrize("methods", ["trak", "trak,tracin", "trak,gas"])
def test_settings_of_methods_that_are_left_out_do_no_harm(compose, methods):
    assert ["trak", *compose(f"methods=[{methods}]").method] == methods.split(",")


def test_another_class_may_have_other_arguments(compose):
    own = "{make: {_target_: trakflow.methods.external.External, path: a.npy}}"
    assert compose(settings=f"\n  tracin: {own}").method["tracin"].make["path"] == "a.npy"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("tracin: {make: {learning_rate: 0.9}}", r"method\.tracin has no setting `make\.learning_rate`"),
        ("tracin: {count: [1]}", r"method\.tracin has no setting `count`"),
        ("tracing: {counts: [1]}", r"no file method/tracing\.yaml"),
        ("tracin: 3", "a section of settings for each method"),
        ("tracin: {counts: [2, 1]}", "must ascend"),
    ],
)
@pytest.mark.parametrize("methods", [(), ("methods=[trak]",)], ids=["chosen", "left_out"])
def test_mistakes_are_named(compose, settings, message, methods):
    if methods and message == "must ascend":
        pytest.skip("values are checked where they are used")
    with pytest.raises(ConfigError, match=message):
        compose(*methods, settings=f"\n  {settings}")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(PLAIN, st.lists) | st.lists(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), PLAIN)))
def test_hydra_reads_what_is_written(value):
    found = OverridesParser.create().parse_override(f"++method.mine.make.given={literal(value)}").value()
    assert found == value
    assert type(found) is type(value)
