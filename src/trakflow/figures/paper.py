"""Figures of the paper's set beside LDS against compute: sketches and ridges, ablations, cheap checkpoints."""

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trakflow.figures.style import GREY, line_styles, number_decades


def sketches_and_ridges(by_k: pd.DataFrame, by_ridge: pd.DataFrame, confidence: float) -> Figure:
    """Draw LDS against k, and against the ridge at each sketch's largest k.

    Args:
        by_k: Columns sketch, k, lds, ci_low, ci_high, subsets.
        by_ridge: Columns sketch, k, ridge (relative), lds, ci_low, ci_high, subsets.
        confidence: Of the interval, for the legend.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
    sketches = list(by_k["sketch"].unique())
    for sketch, style in zip(sketches, line_styles(len(sketches)), strict=True):
        _errorbars(left, by_k[by_k["sketch"] == sketch], "k", sketch, style)
        rows = by_ridge[by_ridge["sketch"] == sketch]
        label = f"{sketch}, k = {rows['k'].iloc[0]}" if len(rows) else sketch
        _errorbars(right, rows, "ridge", label, style)
    left.set_xscale("log", base=2)
    sizes = sorted(by_k["k"].unique())
    left.set_xticks(sizes, [str(size) for size in sizes])
    left.minorticks_off()
    left.set_xlabel("number of features k")
    left.set_ylabel(f"LDS (mean Spearman correlation\nover {by_k['subsets'].iloc[0]} subsets)")
    right.set_xscale("log")
    right.set_xlabel("ridge / mean diagonal of the Gram matrix")
    _legend(figure, right, f"bars: {confidence:.0%} interval;\nk is that of the right panel")
    return figure


def ablation(table: pd.DataFrame, confidence: float) -> Figure:
    """Draw the LDS of the method and without each of its parts.

    Args:
        table: Columns variant, lds, ci_low, ci_high, subsets; the method itself comes first.
        confidence: Of the interval, for the axis.
    """
    figure, axes = plt.subplots(figsize=(7.0, 0.5 + 0.36 * len(table)))
    places = range(len(table))
    errors = [table["lds"] - table["ci_low"], table["ci_high"] - table["lds"]]
    axes.errorbar(table["lds"], places, xerr=errors, fmt="o", capsize=3)
    axes.axvline(float(table["lds"].iloc[0]), color=GREY, linestyle="--", linewidth=0.8)
    axes.set_yticks(list(places), table["variant"])
    axes.invert_yaxis()
    subsets = table["subsets"].iloc[0]
    axes.set_xlabel(f"LDS (mean Spearman correlation\nover {subsets} subsets; bars: {confidence:.0%} interval)")
    return figure


def cheap_checkpoints(table: pd.DataFrame, confidence: float) -> Figure:
    """Draw LDS against what training the checkpoints takes.

    Args:
        table: Columns checkpoints_of, checkpoints, training_passes, lds, ci_low, ci_high, subsets.
        confidence: Of the interval, for the legend.
    """
    figure, axes = plt.subplots(figsize=(6.8, 3.4))
    kinds = list(table["checkpoints_of"].unique())
    for place, (kind, style) in enumerate(zip(kinds, line_styles(len(kinds)), strict=True)):
        # Epochs of one run are also the first of those of all runs, and would lie under them.
        on_top = {**style, "zorder": 3 - place / len(kinds)}
        _errorbars(axes, table[table["checkpoints_of"] == kind], "training_passes", kind, on_top)
    axes.set_xscale("log")
    # Not at every point, whose numbers would overlap.
    number_decades(axes.xaxis, (1, 2, 3, 5))
    axes.minorticks_off()
    axes.set_xlabel("passes over the training set that training takes")
    axes.set_ylabel(f"LDS (mean Spearman correlation\nover {table['subsets'].iloc[0]} subsets)")
    _legend(figure, axes, f"bars: {confidence:.0%} interval")
    return figure


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", title=title, title_fontsize="small")


def _errorbars(axes: Axes, rows: pd.DataFrame, x: str, label: str, style: dict[str, Any]) -> None:
    errors = [rows["lds"] - rows["ci_low"], rows["ci_high"] - rows["lds"]]
    axes.errorbar(rows[x], rows["lds"], yerr=errors, capsize=2, markersize=4.5, label=label, **style)
