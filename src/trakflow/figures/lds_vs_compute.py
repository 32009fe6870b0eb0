"""LDS against compute: attribution quality beside its price (paper, figure 1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trakflow.config.evaluation import Published
from trakflow.figures.style import GREY, lds_limits, legend_of, method_name, method_styles, number_decades
from trakflow.layout import RANDOM

# Ratio of an axis's ends.
FEW_DECADES = 1e3


def lds_vs_compute(table: pd.DataFrame, unit: float, confidence: float, published: Sequence[Published] = ()) -> Figure:
    """Draw LDS with its interval against seconds: of the method alone, and with the training of its checkpoints.

    Args:
        table: Of stage compute; a method without seconds is drawn as a level line. Bars along the seconds go from the
            fastest to the slowest of a job's repeats.
        unit: Seconds of a forward and backward pass over the training set, for the upper axes.
        confidence: Of the interval, for the legend.
        published: Points of others, drawn hollow beside the method alone.
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True)
    # A published method that is not in the table comes after those that are.
    styles = method_styles([*table["method"], *(point.method for point in published)])
    alone, trained = table["seconds"], table["seconds"] + table["training_seconds"]
    for axes, seconds in zip(panels, (alone, trained), strict=True):
        _draw(axes, table, seconds, styles)
        axes.set_xscale("log")
        upper = axes.secondary_xaxis("top", functions=(lambda x: x / unit, lambda x: x * unit))
        upper.set_xlabel("forward+backward passes over the training set")
        axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.6)
    _draw_published(panels[0], styles, published)
    for axes in panels:
        # One a decade may leave a short axis without a number; more overlap on a long one.
        low, high = axes.get_xlim()
        for axis in (axes.xaxis, axes.child_axes[0].xaxis):
            number_decades(axis, (1, 3) if high < FEW_DECADES * low else (1,))
    panels[0].set_xlabel("seconds: attribution alone" + (" (published: A100)" if published else ""))
    panels[1].set_xlabel("seconds: with the training of the checkpoints")
    panels[0].set_ylim(*lds_limits(table, [point.lds for point in published]))
    panels[0].set_ylabel(f"LDS (mean Spearman correlation\nover {table['subsets'].iloc[0]} subsets)")
    handles, labels = legend_of(panels[0])
    title = f"bars: {confidence:.0%} bootstrap interval;\nseconds of the fastest\nand the slowest repeat"
    figure.legend(handles, labels, loc="outside right upper", title=title, title_fontsize="small", fontsize="small")
    return figure


def _draw(axes: Axes, table: pd.DataFrame, seconds: pd.Series, styles: dict[str, dict[str, Any]]) -> None:
    for method in table["method"].unique():
        style = styles[method]
        chosen = table["method"] == method
        rows, cost = table[chosen], seconds[chosen]
        name = method_name(method)
        if cost.isna().any():
            label = f"{name} ({'no cost' if method == RANDOM else 'cost unknown'})"
            axes.axhline(float(rows["lds"].iloc[-1]), color=style["color"], linestyle=":", label=label)
            continue
        errors = np.array([rows["lds"] - rows["ci_low"], rows["ci_high"] - rows["lds"]])
        spread = np.array([rows["seconds"] - rows["seconds_low"], rows["seconds_high"] - rows["seconds"]])
        axes.errorbar(
            cost, rows["lds"], yerr=errors, xerr=spread, capsize=2, markersize=4.5, elinewidth=0.9, label=name, **style
        )
    ceiling = table["ceiling"].iloc[0]
    if pd.notna(ceiling):
        retrains = table["retrains"].iloc[0]
        axes.axhline(ceiling, color=GREY, linestyle="--", label=f"noise ceiling ({retrains} retrains)")


def _draw_published(axes: Axes, styles: dict[str, dict[str, Any]], published: Sequence[Published]) -> None:
    for method in dict.fromkeys(point.method for point in published):
        points = [point for point in published if point.method == method]
        axes.plot(
            [60 * point.minutes for point in points],
            [point.lds for point in points],
            label=f"{method_name(method)}, published",
            **{
                **styles[method],
                "markerfacecolor": "none",
                "linestyle": ":",
                "linewidth": 1.0,
                "markersize": 4.5,
                "zorder": 2,
            },
        )
