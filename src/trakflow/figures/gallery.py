"""Targets with their most helpful and most harmful training examples."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Inputs by their index.
Rows = np.ndarray | Mapping[int, np.ndarray]
# In characters: what is as wide as an image.
CAPTION_WIDTH, CAPTION_LINES = 20, 3
COLOURS = {"target": "#333333", "helpful": "#1b7837", "harmful": "#b2182b"}


def gallery(
    table: pd.DataFrame,
    train: Rows,
    targets: Rows,
    class_names: Sequence[str] | None,
    captions: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Figure:
    """Draw one row a target: itself, its most helpful examples, its most harmful ones.

    Args:
        table: Rows of the top-k table to show, with target, direction, rank, train_index, score and labels.
        train: Training inputs, all or those of the table by index: images are (n x H x W), (n x 1 x H x W) or
            (n x 3 x H x W), anything else shows as text.
        targets: Target inputs, likewise.
        class_names: Names of the labels, or None to show numbers.
        captions: Of the training examples and of the targets, written below each.
    """
    shown = table["target"].unique()
    per_side = int(table["rank"].max())
    gap = 0.35
    figure = plt.figure(
        figsize=(1.05 * (2 * per_side + 1) + 2 * gap, (1.42 if captions is None else 1.58) * len(shown) + 0.45)
    )
    widths = [1.0, gap, *[1.0] * per_side, gap, *[1.0] * per_side]
    grid = figure.add_gridspec(len(shown), len(widths), width_ratios=widths)
    for row, target in enumerate(shown):
        rows = table[table["target"] == target]
        first = rows.iloc[0]
        axes = figure.add_subplot(grid[row, 0])
        _show(
            axes,
            targets[target],
            first["target_id"],
            f"{label_name(first, 'attributed_label', class_names)}\n{first['target_id']}",
            "target",
        )
        _write_below(axes, None if captions is None else captions[1][target])
        for _, example in rows.iterrows():
            direction = str(example["direction"])
            column = (1 if direction == "helpful" else 2 + per_side) + int(example["rank"])
            axes = figure.add_subplot(grid[row, column])
            title = f"{label_name(example, 'train_label', class_names)}\n{example['score']:+.2g}"
            _show(axes, train[example["train_index"]], example["train_id"], title, direction)
            _write_below(axes, None if captions is None else captions[0][example["train_index"]])
    what = "label, score" if "train_label" in table else "score"
    helpful = (1 + gap + per_side / 2) / sum(widths)
    harmful = (1 + 2 * gap + 1.5 * per_side) / sum(widths)
    for x, text, kind in (
        (0.5 / sum(widths), "target", "target"),
        (helpful, f"most helpful ({what})", "helpful"),
        (harmful, f"most harmful ({what})", "harmful"),
    ):
        figure.text(x, 0.995, text, ha="center", va="top", color=COLOURS[kind], weight="bold")
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.28 / figure.get_figheight()))
    return figure


def label_name(row: pd.Series, column: str, class_names: Sequence[str] | None) -> str:
    """Return what a label is called in a figure; empty where there is none."""
    if column not in row or pd.isna(row[column]):
        return ""
    return class_names[int(row[column])] if class_names is not None else f"label {row[column]}"


def _show(axes: Axes, value: np.ndarray, identity: str, title: str, kind: str) -> None:
    image = as_image(value)
    if image is None:
        axes.text(0.5, 0.5, str(identity), ha="center", va="center", wrap=True, transform=axes.transAxes)
    else:
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=COLOURS[kind], linewidth=1.4)
    axes.set_title(title, color=COLOURS[kind], fontsize="x-small", pad=2)


def _write_below(axes: Axes, caption: str | None) -> None:
    if caption is not None:
        lines = textwrap.wrap(caption, CAPTION_WIDTH, max_lines=CAPTION_LINES, placeholder=" …")
        axes.set_xlabel("\n".join(lines), fontsize="xx-small", labelpad=2, parse_math=False)


def as_image(value: np.ndarray) -> np.ndarray | None:
    """Return H x W or H x W x 3 scaled to [0, 1], or None if the input has no image's shape.

    Bytes are shown as they are. Floats were normalised in a way that is not known here, channel by channel about alike:
    their lowest and highest value become 0 and 1.
    """
    if value.ndim == 3 and value.shape[0] in (1, 3):
        value = np.moveaxis(value, 0, -1)
        value = value[..., 0] if value.shape[-1] == 1 else value
    elif value.ndim != 2:
        return None
    if value.dtype == np.uint8:
        return value / 255
    low, high = float(value.min()), float(value.max())
    return (value - low) / (high - low) if high > low else np.zeros_like(value, dtype=float)
