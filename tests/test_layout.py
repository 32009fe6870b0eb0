import inspect
import itertools

import pytest

from trakflow.layout import STAGES, Layout

# Of arguments that are no index.
VALUES = {
    "name": ("gallery", "self_lds"),
    "suffix": ("svg", "csv"),
    "method": ("tracin", "random"),
    "purpose": ("evaluation", "methods"),
}


def test_no_two_files_share_a_path():
    layout = Layout("results/x")
    paths = []
    for name, member in inspect.getmembers(Layout):
        if name.startswith("_"):
            continue
        if not callable(member) and not isinstance(member, property):  # a default of the layout's own
            continue
        if name == "shared":  # a folder, which a variant shares with its experiment
            continue
        if isinstance(member, property):
            paths.append(getattr(layout, name))
            continue
        _, *parameters = inspect.signature(member).parameters.values()
        values = [VALUES.get(parameter.name, (1, 11)) for parameter in parameters]
        paths += [member(layout, *chosen) for chosen in itertools.product(*values)]
    # Scores of all checkpoints are one file a method however many there are.
    assert len(set(paths)) == len(paths) - len(VALUES["method"])
    assert all(path.startswith("results/x/") for path in paths)


def test_a_wildcard_pattern_formats_to_the_path_of_an_index():
    layout = Layout("results/x")
    pattern = layout.features("{checkpoint}", "{shard}")
    assert pattern.format(checkpoint=3, shard=1) == layout.features(3, 1)


@pytest.mark.parametrize("own_from", STAGES)
def test_a_variant_shares_what_comes_before_its_own_stage(own_from):
    whole = Layout("results/x")
    variant = Layout(whole.variant("changed"), whole.root, own_from)
    made = {
        "checkpoints": [("checkpoint", (3,)), ("checkpoint_mask", (3,))],
        "features": [("features", (3, 1)), ("target_features", (3,))],
        "kernels": [("kernel", (3,))],
        "scores": [("ridge", (1,)), ("score_array", (1, 2))],
    }
    assert list(made) == list(STAGES)
    for stage, members in made.items():
        own = STAGES.index(stage) >= STAGES.index(own_from)
        for member, indices in members:
            expected = getattr(whole, member)(*indices)
            if own:
                expected = expected.replace("results/x", "results/x/variants/changed")
            assert getattr(variant, member)(*indices) == expected


def test_a_variant_shares_data_and_retrained_models():
    whole = Layout("results/x")
    variant = Layout(whole.variant("short"), whole.root, "checkpoints")
    assert (variant.train, variant.targets) == (whole.train, whole.targets)
    assert variant.subsets(0) == whole.subsets(0)
    assert variant.retrained_outputs(1, 0, "fitting") == whole.retrained_outputs(1, 0, "fitting")
