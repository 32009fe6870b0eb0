"""Targets with the groups of training examples that raise or lower their output most."""

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from trakflow.figures.gallery import COLOURS
from trakflow.figures.style import GREY

COLUMNS = 2
LONGEST = 32
MEANING = {"helpful": "raises the target's output (helpful)", "harmful": "lowers it (harmful)"}


def shown_groups(table: pd.DataFrame, targets: Sequence[int], count: int) -> pd.DataFrame:
    """Return the bars to draw: of each target its best groups of both directions, each once, the highest first.

    Args:
        table: The table of best groups.
        targets: Which targets.
        count: How many groups of each direction.
    """
    rows = table[table["target"].isin(targets) & (table["rank"] <= count)]
    # Where there are few groups, the least helpful ones are the most harmful ones too.
    rows = rows.drop_duplicates(["target", "group"]).drop(columns=["direction", "rank"])
    return rows.sort_values(["target", "score"], ascending=[True, False], kind="stable", ignore_index=True)


def top_groups(table: pd.DataFrame, class_names: Sequence[str] | None) -> Figure:
    """Draw one panel a target, one bar a group.

    Args:
        table: By `shown_groups`.
        class_names: Names of the labels, or None to show numbers.
    """
    targets = table["target"].unique()
    columns = min(COLUMNS, len(targets))
    lines = -(-len(targets) // columns)
    most = int(table.groupby("target").size().max())
    # Long names leave the bars as wide as short ones do.
    width = 2.9 + 0.065 * min(LONGEST, int(table["name"].str.len().max()))
    size = (width * columns, (0.19 * most + 0.6) * lines + 0.8)
    figure, grid = plt.subplots(lines, columns, squeeze=False, figsize=size)
    for axes, target in zip(grid.flat, targets, strict=False):
        _panel(axes, table[table["target"] == target], class_names)
    for axes in grid.flat[len(targets) :]:
        axes.axis("off")
    figure.supxlabel("score of the group: sum over its examples, in units of the model output f", fontsize="medium")
    figure.supylabel("group (number of examples)", fontsize="medium")
    patches = [Patch(color=COLOURS[kind], label=text) for kind, text in MEANING.items()]
    figure.legend(handles=patches, loc="outside upper center", ncols=2)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, class_names: Sequence[str] | None) -> None:
    places = range(len(rows))
    colours = [COLOURS["helpful" if score > 0 else "harmful"] for score in rows["score"]]
    axes.barh(places, rows["score"], color=colours, height=0.7)
    # Of more, the numbers of small scores would touch.
    axes.locator_params(axis="x", nbins=4)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(places, [f"{_short(name)} ({size})" for name, size in zip(rows["name"], rows["size"], strict=True)])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    first = rows.iloc[0]
    title = _short(str(first["target_id"]))
    if "attributed_label" in rows:
        label = int(first["attributed_label"])
        title += f": {class_names[label] if class_names else f'label {label}'}"
    # Over the names too, where there is room for it.
    axes.set_title(title, loc="right")


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"
