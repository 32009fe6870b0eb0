"""What a reader needs of every figure: it draws, its axes and marks are named, its numbers are those of the table."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from trakflow.config.compose import compose_config
from trakflow.config.evaluation import Published
from trakflow.figures.gallery import COLOURS, as_image, gallery
from trakflow.figures.lds_vs_checkpoints import lds_vs_checkpoints
from trakflow.figures.lds_vs_compute import lds_vs_compute
from trakflow.figures.mislabel import mislabel
from trakflow.figures.predicted_vs_actual import predicted_vs_actual
from trakflow.figures.removal import removal
from trakflow.figures.self_lds import no_self_lds, self_lds
from trakflow.figures.style import GREY, apply_style, method_name, method_styles, save_figure
from trakflow.figures.top_groups import MEANING, shown_groups, top_groups
from trakflow.layout import Layout


@pytest.fixture(autouse=True)
def style():
    apply_style(compose_config("digits", ["figures.dpi=50"]).figures)
    yield
    plt.close("all")


def drawn(figure):
    """Draw, and return the one pair of axes, named and with a legend."""
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    legend = axes.get_legend() or figure.legends[0]
    return axes, [text.get_text() for text in legend.get_texts()]


def lds_table(ceiling):
    return pd.DataFrame(
        {
            "method": "trak",
            "checkpoints": [1, 2, 10],
            "sketch": "sjlt",
            "k": 512,
            "lds": [0.2, 0.3, 0.5],
            "ci_low": [0.1, 0.25, 0.4],
            "ci_high": [0.25, 0.4, 0.55],
            "ceiling": ceiling,
            "subsets": 100,
            "retrains": 3,
        }
    )


def test_lds_vs_checkpoints_shows_values_intervals_and_ceiling():
    axes, legend = drawn(lds_vs_checkpoints(lds_table(0.9), 0.95))
    assert any("95%" in text and "sjlt k=512" in text for text in legend)
    assert any("noise ceiling (3 retrains" in text for text in legend)
    assert "100 subsets" in axes.get_ylabel()
    (container,) = axes.containers
    np.testing.assert_allclose(container[0].get_xydata(), [[1, 0.2], [2, 0.3], [10, 0.5]])
    intervals = [segment[:, 1].tolist() for segment in container[2][0].get_segments()]
    np.testing.assert_allclose(intervals, [[0.1, 0.25], [0.25, 0.4], [0.4, 0.55]])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "10"]


def test_lds_vs_checkpoints_without_a_ceiling_names_none():
    _, legend = drawn(lds_vs_checkpoints(lds_table(np.nan), 0.9))
    assert not any("ceiling" in text for text in legend)


def compute_table():
    rows = {"trak": [(1, 0.3), (10, 0.5)], "tracin": [(1, 0.1), (10, 0.12)], "random": [(0, 0.0)]}
    return pd.DataFrame(
        [
            {
                "method": method, "checkpoints": count, "lds": lds, "ci_low": lds - 0.02, "ci_high": lds + 0.01,
                "seconds": 6.0 * count or np.nan, "seconds_low": 5.0 * count or np.nan,
                "seconds_high": 8.0 * count or np.nan, "training_seconds": 30.0 * count, "ceiling": 0.8, "subsets": 40,
                "retrains": 2,
            }
            for method, points in rows.items()
            for count, lds in points
        ]
    )  # fmt: skip


def test_lds_vs_compute_shows_each_methods_price_and_published_points_hollow_in_its_colour():
    published = [Published(method=method, minutes=2.5, lds=0.4) for method in ("trak", "datamodel")]
    figure = lds_vs_compute(compute_table(), 1.5, 0.9, published)
    figure.canvas.draw()
    alone, trained = (axes for axes in figure.axes if axes.get_xlabel().startswith("seconds"))
    assert alone.get_xlabel().endswith("(published: A100)")
    lines = {bars.get_label(): bars.lines[0] for bars in alone.containers}
    np.testing.assert_allclose(lines["TRAK"].get_xydata(), [[6, 0.3], [60, 0.5]])
    np.testing.assert_allclose(trained.containers[0].lines[0].get_xydata(), [[36, 0.3], [360, 0.5]])
    along = [segment[:, 0].tolist() for segment in trained.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(along, [[35, 38], [350, 380]])
    hollow = {line.get_label(): line for line in alone.lines if line.get_label().endswith("published")}
    assert set(hollow) == {"TRAK, published", "datamodel, published"}
    np.testing.assert_allclose(hollow["TRAK, published"].get_xydata(), [[150, 0.4]])
    assert all(line.get_markerfacecolor() == "none" for line in hollow.values())
    assert hollow["TRAK, published"].get_color() == lines["TRAK"].get_color()
    assert hollow["datamodel, published"].get_color() not in {line.get_color() for line in lines.values()}
    assert {*hollow, "TRAK", "random (no cost)"} <= {text.get_text() for text in figure.legends[0].get_texts()}
    # Six seconds are four forward and backward passes of 1.5.
    upper = alone.child_axes[0]
    assert upper.get_xlabel() == "forward+backward passes over the training set"
    np.testing.assert_allclose(upper.get_xlim(), np.array(alone.get_xlim()) / 1.5)


@pytest.mark.parametrize("dearest", [6, 30, 600, 6e4, 6e6])
@pytest.mark.parametrize("unit", [1.0, 20.6])
def test_numbers_of_the_axes_of_compute_do_not_overlap(dearest, unit):
    table = compute_table()
    table.loc[table["method"] == "tracin", ["seconds", "seconds_low", "seconds_high"]] *= dearest / 60
    figure = lds_vs_compute(table, unit, 0.9)
    figure.canvas.draw()
    for axes in figure.axes[:2]:
        for axis in (axes.xaxis, axes.child_axes[0].xaxis):
            labels = [label for label in axis.get_ticklabels(which="both") if label.get_text()]
            low, high = axis.axes.get_xlim()
            shown = [label for label in labels if low <= label.get_position()[0] <= high]
            boxes = sorted((label.get_window_extent().x0, label.get_window_extent().x1) for label in shown)
            assert boxes
            assert all(first[1] < second[0] for first, second in itertools.pairwise(boxes))


def test_a_method_has_one_style_in_all_figures_and_bars_come_first_in_the_legend():
    table = compute_table().assign(sketch="sjlt", k=8)
    compute, checkpoints = lds_vs_compute(table, 1.0, 0.9), lds_vs_checkpoints(table, 0.9)
    styles = []
    for figure in (compute, checkpoints):
        lines = [bars.lines[0] for bars in figure.axes[0].containers]
        styles.append([(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines])
        labels = [text.get_text().split(",")[0] for text in figure.legends[0].get_texts()]
        assert labels[:2] == ["TRAK", "TracIn"]
    assert styles[0] == styles[1]
    assert method_styles(["trak", "random"])["random"]["color"] == GREY
    every, few = (
        method_styles(names) for names in (["trak", "gas", "ekfac", "own"], ["trak", "ekfac", "own", "random"])
    )
    assert every["ekfac"] == few["ekfac"] != every["gas"]
    assert every["own"] == few["own"]


def test_the_methods_of_the_paper_differ_by_colour_and_mark_or_line_and_trak_has_its_colour_alone():
    apply_style(compose_config("digits").figures)
    styles = method_styles(compose_config("digits", ["paper=digits"]).methods)
    looks = [(style["color"], style["marker"], style["linestyle"]) for style in styles.values()]
    assert len(set(looks)) == len(looks) == 12
    assert sum(style["color"] == styles["trak"]["color"] for style in styles.values()) == 1


def test_trak_with_another_k_has_its_colour_and_a_mark_and_a_name_of_its_own():
    sizes = ["trak (k = 8)", "trak (k = 16)"]
    styles = method_styles(["trak", *sizes, "ekfac", "own"])
    assert {styles[name]["color"] for name in sizes} == {styles["trak"]["color"]}
    assert len({styles[name]["marker"] for name in ("trak", *sizes)}) == 3
    assert {name: styles[name] for name in ("ekfac", "own")} == {
        name: style for name, style in method_styles(["ekfac", "own"]).items() if name in ("ekfac", "own")
    }
    assert [method_name(name) for name in sizes] == ["TRAK (k = 8)", "TRAK (k = 16)"]


def test_what_scores_made_elsewhere_cost_is_not_said_to_be_nothing():
    table = compute_table().assign(method=lambda rows: rows["method"].replace("random", "external"))
    (legend,) = lds_vs_compute(table, 1.0, 0.9).legends
    assert "external (cost unknown)" in {text.get_text() for text in legend.get_texts()}


def test_an_lds_below_zero_stays_in_sight():
    axes, _ = drawn(lds_vs_checkpoints(lds_table(0.9).assign(lds=-0.3, ci_low=-0.4, ci_high=-0.2), 0.9))
    assert axes.get_ylim()[0] <= -0.4


@pytest.mark.parametrize("spread", [0.2, np.nan])
def test_predicted_vs_actual_shows_a_point_a_subset(spread):
    table = pd.DataFrame(
        {"subset": range(4), "predicted": [1.0, 2, 3, 4], "actual": [2.0, 1, 4, 3], "actual_sd": spread}
    )
    axes, legend = drawn(predicted_vs_actual(table, "digit-7", 0.6))
    assert any("4 subsets" in text and "0.60" in text for text in legend)
    assert "digit-7" in axes.get_title()
    np.testing.assert_allclose(axes.containers[0][0].get_xydata(), table[["predicted", "actual"]])
    assert bool(axes.containers[0][2]) == (spread == 0.2)


def test_predicted_vs_actual_speaks_of_retrains_only_where_there_are_several():
    table = pd.DataFrame(
        {"subset": range(4), "predicted": [1.0, 2, 3, 4], "actual": [2.0, 1, 4, 3], "actual_sd": np.nan}
    )
    _, legend = drawn(predicted_vs_actual(table, "digit-7", 0.6))
    assert not any("standard deviation" in text for text in legend)


def test_self_lds_shows_the_curve_and_the_choice():
    table = pd.DataFrame({"ridge": [0.1, 1.0, 10.0], "self_lds": [0.2, 0.5, 0.3], "standard_error": [0.01, 0.02, 0.01]})
    axes, legend = drawn(self_lds(table, 1.0, 10))
    assert any("10 checkpoints" in text for text in legend)
    assert any("chosen: 1" in text for text in legend)
    assert axes.get_xscale() == "log"
    np.testing.assert_allclose(axes.containers[0][0].get_xydata(), table[["ridge", "self_lds"]])


def test_no_self_lds_says_why():
    figure = no_self_lds("the ridge was given")
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["the ridge was given"]


def removal_table():
    rows = [
        {"method": method, "removed": count, "flipped": flip, "ci_low": flip / 2, "ci_high": min(1, flip * 1.5),
         "output_change": -8 * flip, "output_change_ci_low": -9 * flip, "output_change_ci_high": -6 * flip,
         "targets": 30, "retrains": 3}
        for method, factor in (("trak", 1.0), ("representation_similarity", 0.6), ("random", 0.1))
        for count, flip in zip((0, 10, 200), (0.0, 0.3 * factor, 0.8 * factor), strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_removal_shows_flips_and_changes_of_the_output_with_intervals_and_random_examples_in_grey():
    table = removal_table()
    figure = removal(table, 0.9)
    figure.canvas.draw()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["TRAK", "representation similarity", "random"]
    assert "90% bootstrap interval over targets; 3 retrains" in figure.get_supxlabel()
    assert "30 targets" in figure.axes[0].get_ylabel()
    assert figure.axes[1].get_ylabel() == "change of the target's model output f\n(mean over 30 targets)"
    for axes, value, prefix in zip(figure.axes, ("flipped", "output_change"), ("", "output_change_"), strict=True):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "10", "200"]
        for container, method in zip(axes.containers, table["method"].unique(), strict=True):
            rows = table[table["method"] == method]
            # Beside each other, each nearest to its own number.
            points = container[0].get_xydata()
            np.testing.assert_array_equal(np.rint(points[:, 0]), [0, 1, 2])
            np.testing.assert_allclose(points[:, 1], rows[value])
            found = [segment[:, 1].tolist() for segment in container[2][0].get_segments()]
            np.testing.assert_allclose(found, rows[[f"{prefix}ci_low", f"{prefix}ci_high"]])
    grey = [container[0].get_color() == GREY for container in figure.axes[0].containers]
    assert grey == [False, False, True]


def test_mislabel_shows_each_methods_curve_with_its_average_precision_and_chance():
    table = pd.DataFrame(
        {"method": ["trak", "gas"], "average_precision": [0.8, 0.1], "ci_low": [0.7, 0.1], "ci_high": [0.9, 0.1],
         "flipped": 20, "examples": 200}
    )  # fmt: skip
    curves = pd.DataFrame(
        {"method": ["trak", "trak", "trak", "gas"], "precision": [1.0, 0.9, 0.1, 0.1], "recall": [0.1, 0.6, 1.0, 1.0]}
    )
    axes, legend = drawn(mislabel(table, curves, 0.9))
    assert legend == ["TRAK: 0.80 (0.70 to 0.90)", "GAS: 0.10 (one value for all)", "any order"]
    assert "90% bootstrap interval" in axes.figure.legends[0].get_title().get_text()
    assert "20 wrong labels among 200" in axes.get_xlabel()
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.1, 1], [0.6, 0.9], [1, 0.1]])
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[1, 0.1]])
    assert axes.lines[1].get_markevery() is None
    assert set(axes.lines[2].get_ydata()) == {0.1}


def topk_table():
    rows = [
        {"target": target, "target_id": f"t{target}", "attributed_label": target, "direction": direction, "rank": rank,
         "train_index": 3 * target + rank, "train_id": f"x{3 * target + rank}", "train_label": rank,
         "score": sign / rank}
        for target in (0, 2)
        for direction, sign in (("helpful", 1), ("harmful", -1))
        for rank in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("names", [None, ["zero", "one", "two"]])
def test_gallery_shows_targets_and_examples_in_rows_with_labels_scores_and_a_colour_a_kind(names):
    random = np.random.default_rng(0)
    train, targets = random.random((9, 1, 5, 5)), random.random((3, 5, 5))
    figure = gallery(topk_table(), train, targets, names)
    figure.canvas.draw()
    assert len(figure.axes) == 2 * (1 + 2 + 2)
    assert [text.get_text() for text in figure.texts] == [
        "target", "most helpful (label, score)", "most harmful (label, score)"
    ]  # fmt: skip
    titles = [axes.get_title() for axes in figure.axes]
    named = names or ["label 0", "label 1", "label 2"]
    label = named[2]
    assert titles[5] == f"{label}\nt2"
    assert sorted(titles[6:]) == sorted([f"{named[1]}\n+1", f"{label}\n+0.5", f"{named[1]}\n-1", f"{label}\n-0.5"])
    found = [colors.to_hex(axes.spines["left"].get_edgecolor()) for axes in figure.axes[:5]]
    assert found == [COLOURS[kind] for kind in ("target", "helpful", "helpful", "harmful", "harmful")]
    assert len(set(COLOURS.values())) == 3
    image = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(image, as_image(train[1]))
    # Left to right: the target, helpful, harmful.
    lefts = [axes.get_position().x0 for axes in figure.axes[:5]]
    assert lefts == sorted(lefts)


def test_gallery_takes_the_chosen_inputs_by_their_index():
    table = topk_table()
    train, targets = np.random.default_rng(0).random((9, 4, 4)), np.zeros((3, 4, 4))
    rows = [
        {int(row): array[row] for row in table[name].unique()}
        for name, array in (("train_index", train), ("target", targets))
    ]
    shown = [
        [axes.images[0].get_array() for axes in gallery(table, *inputs, None).axes]
        for inputs in ((train, targets), rows)
    ]
    for one, other in zip(*shown, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gallery_of_inputs_that_are_no_images_shows_ids():
    table = topk_table().drop(columns=["train_label", "attributed_label"])
    figure = gallery(table, np.zeros((9, 4)), np.zeros((3, 4)), None)
    figure.canvas.draw()
    assert [axes.texts[0].get_text() for axes in figure.axes[:2]] == ["t0", "x1"]
    assert not any(axes.images for axes in figure.axes)


def test_gallery_writes_captions_below_images_that_they_belong_to():
    random = np.random.default_rng(0)
    train, targets = [f"caption {row} of a thing" for row in range(9)], ["one", "two", "so long " * 20]
    table = topk_table().drop(columns=["train_label", "attributed_label"])
    figure = gallery(table, random.random((9, 5, 5)), random.random((3, 5, 5)), None, (train, targets))
    figure.canvas.draw()
    below = [" ".join(axes.get_xlabel().split()) for axes in figure.axes]
    assert below[0] == "one"
    assert below[5].endswith("…")
    rows = table[table["target"] == 0]
    order = rows.sort_values(["direction", "rank"], key=lambda column: column.replace({"helpful": 0, "harmful": 1}))
    left_to_right = sorted(figure.axes[1:5], key=lambda axes: axes.get_position().x0)
    assert [" ".join(axes.get_xlabel().split()) for axes in left_to_right] == [
        train[index] for index in order["train_index"]
    ]
    for axes in figure.axes:
        height = axes.xaxis.label.get_window_extent().y0 / figure.dpi
        assert height > 0
    assert "most helpful (score)" in [text.get_text() for text in figure.texts]


def group_table(scores):
    rows = [
        {"target": target, "target_id": f"t{target}", "attributed_label": target, "direction": direction, "rank": rank,
         "group": group, "name": f"speech {group}", "size": 10 * group, "score": scores[target][group]}
        for target in (0, 1)
        for direction, sign in (("helpful", -1), ("harmful", 1))
        for rank, group in enumerate(np.argsort(sign * scores[target]), start=1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_top_groups_shows_a_bar_a_group_once_with_its_size_and_the_colour_of_its_sign():
    scores = np.array([[0.5, -1.0, 2.0, 0.25, -0.1], [3.0, 2.0, 1.0, 0.5, 0.25]])
    # Of five groups the middle one is among the three best and the three worst.
    table = shown_groups(group_table(scores), [0, 1], 3)
    figure = top_groups(table, ["cat", "dog"])
    figure.canvas.draw()
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["t0: cat", "t1: dog"]
    for axes, values in zip(figure.axes, scores, strict=True):
        order = np.argsort(-values)
        assert [bar.get_width() for bar in axes.patches] == values[order].tolist()
        expected = [COLOURS["helpful" if value > 0 else "harmful"] for value in values[order]]
        assert [colors.to_hex(bar.get_facecolor()) for bar in axes.patches] == expected
        assert [text.get_text() for text in axes.get_yticklabels()] == [f"speech {n} ({10 * n})" for n in order]
        assert axes.yaxis_inverted()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(MEANING.values())
    assert "sum over its examples" in figure.get_supxlabel()
    assert "number of examples" in figure.get_supylabel()
    assert shown_groups(group_table(scores), [1], 1)["score"].tolist() == [3.0, 0.25]


def test_long_names_of_groups_are_cut_and_unlabelled_targets_named_by_id():
    table = shown_groups(group_table(np.ones((2, 2))), [0], 2).drop(columns="attributed_label")
    figure = top_groups(table.assign(name=["a\nb", "x" * 60]), None)
    figure.canvas.draw()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a b (0)", "x" * 31 + "… (10)"]
    assert axes.get_title(loc="right") == "t0"


def test_an_image_is_two_dimensional_or_has_one_or_three_channels():
    random = np.random.default_rng(0)
    grey, colour = random.normal(size=(4, 6)), random.normal(size=(3, 4, 6))
    expected = (grey - grey.min()) / (grey.max() - grey.min())
    np.testing.assert_allclose(as_image(grey), expected)
    np.testing.assert_allclose(as_image(grey[None]), expected)
    shown = as_image(colour)
    assert shown.shape == (4, 6, 3)
    assert (shown.min(), shown.max()) == (0, 1)
    np.testing.assert_allclose(shown[..., 1], (colour[1] - colour.min()) / (colour.max() - colour.min()))
    assert as_image(np.full((4, 6), 7)).tolist() == np.zeros((4, 6)).tolist()
    assert as_image(np.array([[51, 102]], dtype=np.uint8)).tolist() == [[0.2, 0.4]]
    for other in (np.zeros(5), np.zeros((2, 4, 6)), np.zeros((1, 2, 3, 4)), np.array(3)):
        assert as_image(other) is None


def test_a_figure_is_saved_in_three_forms_by_equal_bytes(tmp_path):
    table = lds_table(0.9)
    written = []
    for folder in ("a", "b"):
        layout = Layout(str(tmp_path / folder))
        save_figure(lds_vs_checkpoints(table, 0.95), table, layout, "x")
        written.append([Path(layout.figure("x", suffix)).read_bytes() for suffix in ("svg", "png", "csv")])
    assert written[0] == written[1]
    assert b"<svg" in written[0][0]
    assert written[0][1].startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(layout.figure("x", "csv")), table)


def test_the_style_follows_the_settings():
    settings = compose_config(
        "digits", ["figures.font_size=7", "figures.dpi=123", "figures.palette=['#010203']"]
    ).figures
    apply_style(settings)
    assert (plt.rcParams["font.size"], plt.rcParams["savefig.dpi"]) == (7, 123)
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == ["#010203"]
