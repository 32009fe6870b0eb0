"""Predicted against actual output of one target over the evaluation subsets."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def predicted_vs_actual(table: pd.DataFrame, target: str, correlation: float) -> Figure:
    """Draw one point a subset.

    Args:
        table: Columns subset, predicted, actual, actual_sd (NaN with one retrain).
        target: How to name the target.
        correlation: Its Spearman correlation.
    """
    figure, axes = plt.subplots(figsize=(4.2, 3.4))
    errors = table["actual_sd"] if table["actual_sd"].notna().all() else None
    models = "one retrain" if errors is None else "mean of retrains, bars: ±1 standard deviation"
    kept = f"{models}\n{len(table)} subsets, Spearman {correlation:.2f}"
    axes.errorbar(
        table["predicted"],
        table["actual"],
        yerr=errors,
        fmt="o",
        markersize=3.5,
        elinewidth=0.6,
        alpha=0.75,
        label=kept,
    )
    axes.set_xlabel("predicted: sum of scores over the subset")
    axes.set_ylabel("actual output f(z) of retrained models\n(log-odds for classification)")
    axes.set_title(f"Target {target}")
    axes.legend(loc="upper left")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.22 * (high - low))
    return figure
