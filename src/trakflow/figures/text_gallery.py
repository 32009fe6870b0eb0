"""Targets that are texts, with the texts that raised or lowered their output most."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from trakflow.figures.gallery import COLOURS, label_name
from trakflow.figures.style import GREY

TITLES = {"helpful": "most helpful: raise the output", "harmful": "most harmful: lower it"}
# Inches, but for the lines, which are multiples of the font size.
WIDTH, MARGIN, GAP = 9.0, 0.15, 0.3
LINE = 1.35
COLUMN = (WIDTH - 2 * MARGIN - GAP) / 2
POINTS = 72
TARGET_LINES, EXAMPLE_LINES = 4, 3


@dataclass(frozen=True)
class Piece:
    """Some lines of text.

    Attributes:
        left: In inches.
        top: In lines.
        lines: What they say.
        style: How they look.
    """

    left: float
    top: float
    lines: Sequence[str]
    style: dict[str, Any]


def text_gallery(
    table: pd.DataFrame,
    train: Sequence[str],
    targets: Sequence[str],
    class_names: Sequence[str] | None,
    groups: Sequence[str] | None = None,
) -> Figure:
    """Draw one block a target: its text, and below it those of its most helpful and most harmful examples side by side.

    Args:
        table: Rows of the top-k table to show, with target, direction, rank, train_index, score and labels.
        train: Texts of the training examples; long ones are cut.
        targets: Texts of the targets.
        class_names: Names of the labels, or None to show numbers.
        groups: The group of each training example (its speech, its film), named after its score and label.
    """
    size = float(plt.rcParams["font.size"])
    pieces: list[Piece] = []
    rules = []
    top = 0.0
    for target in table["target"].unique():
        rows = table[table["target"] == target]
        if pieces:
            rules.append(top + 0.5)
            top += 1
        block = list(_block(rows, train, targets[target], class_names, groups, size))
        pieces += [Piece(piece.left, top + piece.top, piece.lines, piece.style) for piece in block]
        top += max(piece.top + len(piece.lines) for piece in block)
    line = LINE * size / POINTS
    figure = plt.figure(figsize=(WIDTH, top * line + 2 * MARGIN), layout="none")
    height = figure.get_figheight()
    for piece in pieces:
        for number, text in enumerate(piece.lines):
            y = 1 - (MARGIN + (piece.top + number) * line) / height
            # Dollars are dollars.
            figure.text(piece.left / WIDTH, y, text, va="top", parse_math=False, **piece.style)
    for rule in rules:
        y = 1 - (MARGIN + rule * line) / height
        figure.add_artist(Line2D([MARGIN / WIDTH, 1 - MARGIN / WIDTH], [y, y], color=GREY, linewidth=0.6))
    return figure


def with_texts(table: pd.DataFrame, train: Sequence[str], targets: Sequence[str]) -> pd.DataFrame:
    """Return the table with the whole text of each target and example."""
    texts = {
        "target_text": [targets[target] for target in table["target"]],
        "train_text": [train[index] for index in table["train_index"]],
    }
    return table.assign(**texts)


def _block(
    rows: pd.DataFrame,
    train: Sequence[str],
    text: str,
    class_names: Sequence[str] | None,
    groups: Sequence[str] | None,
    size: float,
) -> Iterator[Piece]:
    """One target; lines are counted from its top."""
    first = rows.iloc[0]
    heading = ", ".join(part for part in ("target", label_name(first, "attributed_label", class_names)) if part)
    whole = WIDTH - 2 * MARGIN
    bold = {"color": COLOURS["target"], "weight": "bold"}
    yield Piece(MARGIN, 0.0, wrapped(f"{heading} ({first['target_id']})", whole, size, 1, "bold"), bold)
    own = wrapped(text, whole, size, TARGET_LINES)
    yield Piece(MARGIN, 1.0, own, {"color": COLOURS["target"]})
    start = 1.4 + len(own)
    for left, direction in ((MARGIN, "helpful"), (MARGIN + COLUMN + GAP, "harmful")):
        style = {"color": COLOURS[direction], "fontsize": 0.9 * size}
        yield Piece(left, start, [TITLES[direction]], {**style, "weight": "bold"})
        top = start + 1
        for _, row in rows[rows["direction"] == direction].sort_values("rank").iterrows():
            index = int(row["train_index"])
            group = "" if groups is None else groups[index]
            facts = [f"{row['score']:+.2g}", label_name(row, "train_label", class_names), group]
            yield Piece(left, top, wrapped(", ".join(filter(None, facts)), COLUMN, 0.9 * size, 1), style)
            lines = wrapped(train[index], COLUMN, 0.9 * size, EXAMPLE_LINES)
            yield Piece(left, top + 1, lines, {"color": COLOURS["target"], "fontsize": 0.9 * size})
            top += 1.25 + len(lines)


def wrapped(text: str, width: float, size: float, most: int, weight: str = "normal") -> list[str]:
    """Return a text's lines.

    Args:
        text: Any white space in it counts as one space.
        width: Of a line, in inches.
        size: Of the font, in points.
        most: A longer text is cut after so many lines, and ends in an ellipsis.
        weight: Of the font.
    """
    font = FontProperties(size=size, weight=weight)

    def fits(line: str) -> bool:
        return text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] <= width * POINTS

    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if fits(longer):
            lines[-1] = longer
            continue
        if len(lines) == most:
            lines[-1] = _cut(f"{lines[-1]} {word}".lstrip(), fits)
            break
        lines += [word] if lines[-1] else []
        if not fits(lines[-1] or word):
            lines[-1] = _cut(word, fits)
    return lines


def _cut(line: str, fits: Callable[[str], bool]) -> str:
    """Return as much of a line's beginning as fits with an ellipsis; whole words where there are several."""
    while not fits(f"{line} …"):
        line = line.rpartition(" ")[0] or line[:-1]
    return f"{line} …"
