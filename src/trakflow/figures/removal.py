"""How often predictions flip, and how far outputs move, when the examples that a method ranks highest are left out."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trakflow.figures.style import GREY, method_name, method_styles

# Of the distance between two numbers of removed examples: over it the methods' intervals are spread.
SPREAD = 0.6


def removal(table: pd.DataFrame, confidence: float) -> Figure:
    """Draw one line a method in two panels, flips and change of the output, against the number of removed examples.

    Args:
        table: The table of the removal.
        confidence: Of the interval, for the axis.
    """
    counts = sorted(table["removed"].unique().tolist())
    methods = list(table["method"].unique())
    figure, panels = plt.subplots(1, 2, figsize=(10.4, 4.4))
    styles = method_styles(methods)
    columns = (("flipped", ""), ("output_change", "output_change_"))
    for axes, (value, prefix) in zip(panels, columns, strict=True):
        for place, method in enumerate(methods):
            rows = table[table["method"] == method].sort_values("removed")
            # Evenly spaced: by their values, the smallest numbers would lie upon each other.
            shift = SPREAD * ((place + 0.5) / len(methods) - 0.5)
            positions = np.array([counts.index(count) for count in rows["removed"]]) + shift
            errors = [rows[value] - rows[f"{prefix}ci_low"], rows[f"{prefix}ci_high"] - rows[value]]
            axes.errorbar(
                positions, rows[value], yerr=errors, markersize=4, capsize=2, elinewidth=0.8,
                label=method_name(method), **styles[method],
            )  # fmt: skip
        axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    first = table.iloc[0]
    panels[0].set_ylim(-0.03, 1.03)
    panels[0].set_ylabel(f"part of predictions that flip\n(mean over {first['targets']} targets)")
    panels[1].axhline(0, color=GREY, linewidth=0.6)
    panels[1].set_ylabel(f"change of the target's model output f\n(mean over {first['targets']} targets)")
    bars = f"Bars: {confidence:.0%} bootstrap interval over targets; {first['retrains']} retrains each."
    what = "training examples removed, those that the method ranks highest for the target (evenly spaced)"
    figure.supxlabel(f"{what}\n{bars}", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(4, len(methods)))
    return figure
