"""The gallery of texts: what it says, that lines fit, and that nothing lies over anything else."""

from itertools import combinations

import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt

from trakflow.config.compose import compose_config
from trakflow.figures.gallery import COLOURS
from trakflow.figures.style import apply_style
from trakflow.figures.text_gallery import text_gallery, with_texts, wrapped

TRAIN = ["short", "a $5 film and a $9 ticket", "WIDE WORDS " * 40, "many  spaces\nand lines", "fünf", "mmmm " * 60]
TARGETS = ["unseen", "a target " * 200]
FILMS = [f"film {number}" for number in range(6)]


@pytest.fixture(autouse=True)
def style():
    apply_style(compose_config("digits", ["figures.dpi=50"]).figures)
    yield
    plt.close("all")


def table(per_side=2):
    rows = [
        {"target": target, "target_id": f"t{target}", "attributed_label": target, "direction": direction, "rank": rank,
         "train_index": (3 * target + 2 * side + rank) % 6, "train_id": "x", "train_label": rank % 2,
         "score": (1 - 2 * side) / rank}
        for target in (0, 1)
        for side, direction in enumerate(("helpful", "harmful"))
        for rank in range(1, per_side + 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def texts_of(figure, colour=None):
    return [
        text.get_text() for text in figure.texts if colour is None or colors.to_hex(text.get_color()) == COLOURS[colour]
    ]


@pytest.mark.parametrize("names", [None, ["rotten", "fresh"]])
def test_it_shows_texts_scores_labels_and_groups(names):
    figure = text_gallery(table(), TRAIN, TARGETS, names, FILMS)
    named = names or ["label 0", "label 1"]
    assert texts_of(figure)[:2] == [f"target, {named[0]} (t0)", "unseen"]
    helpful = texts_of(figure, "helpful")
    assert helpful[1:3] == [f"+1, {named[1]}, film 1", f"+0.5, {named[0]}, film 2"]
    assert texts_of(figure, "harmful")[1:3] == [f"-1, {named[1]}, film 3", f"-0.5, {named[0]}, film 4"]
    shown = texts_of(figure, "target")
    assert "a $5 film and a $9 ticket" in shown
    assert "many spaces and lines" in shown
    assert sum(text.endswith(" …") for text in shown) == 3


@pytest.mark.parametrize("size", [6, 9, 12])
def test_lines_fit_and_nothing_lies_over_anything_else(size):
    plt.rcParams["font.size"] = size
    figure = text_gallery(table(3), TRAIN, TARGETS, ["rotten", "fresh"], FILMS)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    width, height = figure.canvas.get_width_height()
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    for one, other in combinations(boxes, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        along = min(one.y1, other.y1) - max(one.y0, other.y0)
        # Half a point: descenders of one line may touch the next.
        assert across <= 0 or along <= 0.5


def test_without_labels_and_groups_only_scores_are_named():
    rows = table().drop(columns=["train_label", "attributed_label"])
    figure = text_gallery(rows, TRAIN, TARGETS, None)
    assert texts_of(figure)[0] == "target (t0)"
    assert texts_of(figure, "helpful")[1] == "+1"


@pytest.mark.parametrize("weight", ["normal", "bold"])
@pytest.mark.parametrize("text", ["mmmm WW " * 30, "iiii lll " * 60, "Donaudampfschifffahrt" * 9 + " and more", "a b"])
def test_lines_are_as_long_as_they_can_be_and_no_longer(text, weight):
    # So fine that a glyph is as wide as it is meant to be.
    figure = plt.figure(dpi=1200)

    def width(line):
        return figure.text(0, 0, line, fontsize=9, weight=weight).get_window_extent().width / figure.dpi

    lines = wrapped(text, 2.0, 9.0, 3, weight)
    assert len(lines) <= 3
    words = text.split()
    assert any(line.endswith(" …") for line in lines) == (len(text) > 3)
    for number, line in enumerate(lines):
        assert width(line) <= 2.02
        if number + 1 < len(lines) and not line.endswith("…"):
            following = words[sum(len(other.split()) for other in lines[: number + 1])]
            assert width(f"{line} {following}") > 1.98


def test_white_space_counts_as_one_space_and_nothing_is_one_empty_line():
    assert wrapped("one two  three\nfour", 4.0, 9.0, 3) == ["one two three four"]
    assert wrapped("", 4.0, 9.0, 3) == [""]


def test_the_table_beside_the_figure_holds_the_whole_texts():
    found = with_texts(table(), TRAIN, TARGETS)
    assert found["target_text"].tolist() == [TARGETS[target] for target in found["target"]]
    assert found["train_text"].tolist() == [TRAIN[index] for index in found["train_index"]]
