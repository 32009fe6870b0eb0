"""Any overrides: a configuration that says what it was told to, or a sentence; never another error."""

import math

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import ValidationError

from trakflow.config.compose import compose_config, sentences
from trakflow.config.schema import Config
from trakflow.config.stages import VERSIONS, stage_settings
from trakflow.errors import ConfigError

# Composing takes a third of a second.
FEW = settings(max_examples=max(6, settings().max_examples // 10))
DEFAULT = compose_config("digits").model_dump()


def leaves(value, path=()):
    """Every setting of a configuration by its path, mappings among them."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))


PATHS = sorted(leaves(DEFAULT))
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**31, 2**53, 2**63, 2**64, 10**400, 1e-300])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(["???", "${seed}", "auto", "off"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
# What an override may look like, and what it should not.
OVERRIDES = st.tuples(
    st.sampled_from(["", "+", "++", "~"]),
    st.sampled_from([".".join(path) for path in PATHS] + ["experiment", "nothing.here", "hydra.run.dir", "data@x"]),
    st.text(max_size=10)
    | NUMBERS.map(str)
    | st.sampled_from(["null", "[]", "{}", "[1,2]", "${oc.env:NO}", "nan", "1e400"]),
).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}")


def changed(path, value):
    """The default configuration with one setting set to another value, as YAML would give it."""
    whole = Config.model_validate(DEFAULT).model_dump()
    section = whole
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    return whole


@given(st.sampled_from(PATHS), VALUES)
@example(("data", "train_size"), 10**400)
@example(("data", "train_size"), 2**53)
@example(("solver", "ridge"), math.nan)
@example(("solver", "ridge_grid", "high"), math.inf)
@example(("training", "learning_rate"), math.inf)
def test_a_changed_setting_is_kept_or_refused(path, value):
    try:
        config = Config.model_validate(changed(path, value))
    except ValidationError as error:
        assert sentences(error)
        return
    # What is valid reads back as it was from the workflow's own YAML, and every stage can read it.
    text = OmegaConf.to_yaml(config.model_dump(mode="json"))
    assert Config.model_validate(yaml.safe_load(text)) == config
    assert Config.model_validate(config.model_dump()) == config
    for stage in VERSIONS:
        assert stage_settings(config, stage)["version"] == VERSIONS[stage]


@FEW
@given(st.lists(OVERRIDES, min_size=1, max_size=3))
@example(["methods=null"])
@example(["methods=5"])
@example(["data=null"])
@example(["experiment=null"])
@example(["hydra=null"])
@example(["model=[1]"])
@example(["=3"])
@example(["seed=1" + "0" * 5000])
@example(["seed=" + "[" * 3000])
def test_overrides_give_a_configuration_or_a_sentence(overrides):
    try:
        config = compose_config("digits", overrides)
    except ConfigError as error:
        assert len(str(error)) > 20
        return
    assert compose_config("digits", overrides) == config


@FEW
@given(st.sampled_from(PATHS), st.integers(1, 500))
def test_a_number_that_is_taken_is_the_one_that_was_given(path, number):
    assume(len(path) > 1 and path[0] not in ("job", "method"))
    try:
        config = compose_config("digits", [f"{'.'.join(path)}={number}"])
    except ConfigError as error:
        assert path[-1] in str(error) or path[0] in str(error)
        return
    found = config.model_dump()
    for name in path:
        found = found[name]
    assert found == number


@pytest.mark.parametrize("name", ["../digits", "", "\0", "[digits", "${seed}"])
def test_an_experiment_by_any_name_is_found_or_refused(name):
    with pytest.raises(ConfigError, match="cannot be composed"):
        compose_config(name)
