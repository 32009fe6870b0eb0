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
