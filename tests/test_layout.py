import inspect
import itertools

from trakflow.layout import Layout

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
        if name in ("shared", "trained", "featurized"):  # folders, which a variant shares with its experiment
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


def test_a_variant_may_share_features_and_kernels():
    whole = Layout("results/x")
    variant = Layout(whole.variant("other_ridge"), whole.root, own_features=False)
    for member in ("features", "target_features", "kernel"):
        indices = (3, 1) if member == "features" else (3,)
        assert getattr(variant, member)(*indices) == getattr(whole, member)(*indices)
    assert variant.ridge(1) != whole.ridge(1)


def test_a_variant_shares_data_and_retrained_models_and_may_share_checkpoints():
    whole = Layout("results/x")
    for own_checkpoints in (False, True):
        variant = Layout(whole.variant("short"), whole.root, own_checkpoints)
        assert (variant.train, variant.targets) == (whole.train, whole.targets)
        assert variant.subsets(0) == whole.subsets(0)
        assert variant.retrained_outputs(1, 0, "fitting") == whole.retrained_outputs(1, 0, "fitting")
        assert (variant.checkpoint(3) == whole.checkpoint(3)) != own_checkpoints
        assert (variant.checkpoint_mask(3) == whole.checkpoint_mask(3)) != own_checkpoints
        assert variant.features(0, 0) == "results/x/variants/short/features/0/0.safetensors"
        assert variant.lds != whole.lds
