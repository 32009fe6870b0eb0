"""The self-LDS curve by which the ridge was chosen."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trakflow.figures.style import GREY


def self_lds(table: pd.DataFrame, chosen: float, checkpoints: int) -> Figure:
    """Draw the self-LDS against the ridge.

    Args:
        table: Columns ridge (in units of the mean diagonal), self_lds and standard_error.
        chosen: The ridge in use.
        checkpoints: How many checkpoints predicted each other.
    """
    figure, axes = plt.subplots(figsize=(4.4, 3.0))
    label = f"self-LDS, {checkpoints} checkpoints\n(bars: ±1 standard error over targets)"
    errors = table["standard_error"]
    axes.errorbar(table["ridge"], table["self_lds"], yerr=errors, marker="o", markersize=3, capsize=2, label=label)
    axes.axvline(chosen, color=GREY, linestyle="--", label=f"chosen: {chosen:.3g}")
    axes.set_xscale("log")
    axes.set_xlabel("ridge λ (multiple of the Gram matrix's mean diagonal)")
    axes.set_ylabel("self-LDS (mean Spearman\ncorrelation over checkpoints)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def no_self_lds(reason: str) -> Figure:
    """Say in the curve's place why there is none."""
    figure, axes = plt.subplots(figsize=(4.4, 1.4))
    axes.axis("off")
    axes.text(0.5, 0.5, reason, ha="center", va="center", wrap=True, transform=axes.transAxes)
    return figure
