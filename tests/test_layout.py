import inspect
import itertools

from trakflow.layout import Layout


def test_no_two_files_share_a_path():
    layout = Layout("results/x")
    paths = []
    for name, member in inspect.getmembers(Layout):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            paths.append(getattr(layout, name))
            continue
        arguments = len(inspect.signature(member).parameters) - 1
        values = [("gallery", "self_lds"), ("svg", "csv")] if name == "figure" else [(1, 11)] * arguments
        paths += [member(layout, *chosen) for chosen in itertools.product(*values)]
    # Scores of all checkpoints are one file however many there are.
    assert len(set(paths)) == len(paths) - 1
    assert all(path.startswith("results/x/") for path in paths)


def test_a_wildcard_pattern_formats_to_the_path_of_an_index():
    layout = Layout("results/x")
    pattern = layout.features("{checkpoint}", "{shard}")
    assert pattern.format(checkpoint=3, shard=1) == layout.features(3, 1)
