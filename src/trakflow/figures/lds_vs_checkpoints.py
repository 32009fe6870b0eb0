"""LDS against the number of checkpoints."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trakflow.figures.style import GREY, lds_limits, legend_of, method_name, method_styles
from trakflow.layout import TRAK

# Of the numbers of checkpoints: over this factor methods are spread, whose intervals would lie upon each other.
SPREAD = 1.2


def lds_vs_checkpoints(table: pd.DataFrame, confidence: float) -> Figure:
    """Draw LDS with its interval against the number of checkpoints, and the noise ceiling as a line.

    Args:
        table: The LDS table; methods that read no checkpoints are left out.
        confidence: Of the interval, for the legend.
    """
    styles = method_styles(table["method"])
    table = table[table["checkpoints"] > 0]
    methods = table["method"].unique()
    figure, axes = plt.subplots(figsize=(4.6 if len(methods) == 1 else 6.8, 3.2))
    for place, method in enumerate(methods):
        rows = table[table["method"] == method]
        errors = [rows["lds"] - rows["ci_low"], rows["ci_high"] - rows["lds"]]
        label = _label(rows, confidence)
        beside = SPREAD ** ((place + 0.5) / len(methods) - 0.5)
        axes.errorbar(beside * rows["checkpoints"], rows["lds"], yerr=errors, capsize=3, label=label, **styles[method])
    ceiling = table["ceiling"].iloc[0]
    if pd.notna(ceiling):
        retrains = table["retrains"].iloc[0]
        axes.axhline(ceiling, color=GREY, linestyle="--", label=f"noise ceiling ({retrains} retrains a subset)")
    axes.set_xscale("log")
    counts = sorted(table["checkpoints"].unique())
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_ylim(*lds_limits(table))
    axes.set_xlabel("number of checkpoints")
    axes.set_ylabel(f"LDS (mean Spearman correlation\nover {table['subsets'].iloc[0]} subsets)")
    if len(methods) == 1:
        axes.legend(loc="lower right")
    else:
        figure.legend(*legend_of(axes), loc="outside right upper")
    return figure


def _label(rows: pd.DataFrame, confidence: float) -> str:
    if rows["method"].iloc[0] == TRAK:
        return f"TRAK, {rows['sketch'].iloc[0]} k={rows['k'].iloc[0]:.0f}\n({confidence:.0%} bootstrap interval)"
    return method_name(rows["method"].iloc[0])
