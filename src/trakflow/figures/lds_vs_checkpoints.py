"""LDS against the number of checkpoints."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trakflow.figures.style import GREY


def lds_vs_checkpoints(table: pd.DataFrame, confidence: float) -> Figure:
    """Draw LDS with its interval against the number of checkpoints, and the noise ceiling as a line.

    Args:
        table: The LDS table, one row a number of checkpoints.
        confidence: Of the interval, for the legend.
    """
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    for method, rows in table.groupby("method", sort=False):
        errors = [rows["lds"] - rows["ci_low"], rows["ci_high"] - rows["lds"]]
        what = f"{str(method).upper()}, {rows['sketch'].iloc[0]} k={rows['k'].iloc[0]}"
        label = f"{what}\n({confidence:.0%} bootstrap interval)"
        axes.errorbar(rows["checkpoints"], rows["lds"], yerr=errors, marker="o", capsize=3, label=label)
    ceiling = table["ceiling"].iloc[0]
    if pd.notna(ceiling):
        retrains = table["retrains"].iloc[0]
        axes.axhline(ceiling, color=GREY, linestyle="--", label=f"noise ceiling ({retrains} retrains a subset)")
    axes.set_xscale("log")
    axes.set_xticks(table["checkpoints"], [str(count) for count in table["checkpoints"]])
    axes.minorticks_off()
    axes.set_ylim(min(0.0, float(table["ci_low"].min())), 1.0)
    axes.set_xlabel("number of checkpoints")
    axes.set_ylabel(f"LDS (mean Spearman correlation\nover {table['subsets'].iloc[0]} subsets)")
    axes.legend(loc="lower right")
    return figure
