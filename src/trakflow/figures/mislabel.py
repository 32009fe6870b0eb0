"""How precisely each method's self-influence finds wrong labels, against how many of them it has found."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trakflow.figures.style import GREY, method_name, method_styles


def mislabel(table: pd.DataFrame, curves: pd.DataFrame, confidence: float) -> Figure:
    """Draw one precision-recall curve a method, and what chance would give.

    Args:
        table: The table of average precisions.
        curves: Columns method, precision and recall, in the order in which examples are looked at.
        confidence: Of the interval, for the legend.
    """
    figure, axes = plt.subplots(figsize=(7.8, 3.6))
    styles = method_styles(table["method"])
    for place, (_, row) in enumerate(table.iterrows()):
        points = curves[curves["method"] == row["method"]]
        # A method that scores all examples alike has one point, at the end of the line of any order.
        said = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}" if len(points) > 1 else "one value for all"
        axes.plot(
            points["recall"],
            points["precision"],
            markersize=4,
            markevery=(0.02 * place, 0.12) if len(points) > 1 else None,
            clip_on=False,
            label=f"{method_name(row['method'])}: {row['average_precision']:.2f} ({said})",
            **styles[row["method"]],
        )
    first = table.iloc[0]
    axes.axhline(first["flipped"] / first["examples"], color=GREY, linestyle="--", label="any order")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel(f"recall: part found of the {first['flipped']} wrong labels among {first['examples']}")
    axes.set_ylabel("precision: part of the examples\nlooked at that are mislabelled")
    figure.legend(loc="outside right upper", title=f"average precision\n({confidence:.0%} bootstrap interval)")
    return figure
