"""The figure of `benchmarks/quality.py`: LDS against seconds of featurizing."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sketches import QUALITY
from trakflow.figures.style import GREY

MARKERS = "osD^vP"


def draw(table: pd.DataFrame) -> Figure:
    """Draw one panel an experiment, one colour a family of sketches, the noise ceiling and the floor of time as lines.

    Args:
        table: What `quality.py` wrote.
    """
    measured = table[table["lds"].notna()]
    experiments = list(dict.fromkeys(measured["experiment"]))
    figure, panels = plt.subplots(1, len(experiments), figsize=(1.6 + 3.4 * len(experiments), 4.4), squeeze=False)
    for axes, experiment in zip(panels[0], experiments, strict=True):
        _panel(axes, measured[measured["experiment"] == experiment])
        axes.set_title(experiment)
    checkpoints, confidence = measured["checkpoints"].iloc[0], measured["confidence"].iloc[0]
    panels[0][0].set_ylabel(f"LDS with {checkpoints:.0f} checkpoints\n({confidence:.0%} bootstrap interval)")
    handles: dict[str, Artist] = {}
    for axes in panels[0]:
        handles.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=1 + len(experiments), fontsize="small"
    )
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    families = list(dict.fromkeys(point.family for point in QUALITY))
    for number, family in enumerate(families):
        part = rows[rows["family"] == family].sort_values("featurize_seconds")
        if part.empty:
            continue
        errors = [part["lds"] - part["ci_low"], part["ci_high"] - part["lds"]]
        axes.errorbar(
            part["featurize_seconds"],
            part["lds"],
            yerr=errors,
            color=f"C{number}",
            marker=MARKERS[number % len(MARKERS)],
            linestyle="-" if len(part) > 1 else "none",
            linewidth=0.8,
            capsize=2,
            markersize=4.5,
            label=family,
        )
        for _, point in part.iterrows():
            _name(axes, point, above=number % 2 == 0)
    axes.axhline(rows["ceiling"].iloc[0], color=GREY, linestyle="--", label="noise ceiling of the LDS")
    axes.axvline(
        rows["forward_backward_seconds"].median(), color=GREY, linestyle=":", label="plain forward + backward passes"
    )
    axes.set_xscale("log")
    axes.margins(x=0.12)
    lowest, highest = float(rows["ci_low"].min()), float(rows[["ci_high", "ceiling"]].max().max())
    axes.set_ylim(lowest - 0.1 * (highest - lowest), highest + 0.05 * (highest - lowest))
    examples, checkpoints = rows["examples"].iloc[0], rows["checkpoints"].iloc[0]
    axes.set_xlabel(f"seconds to featurize {examples:.0f} examples\nby {checkpoints:.0f} checkpoints")


def _name(axes: Axes, point: pd.Series, above: bool) -> None:
    # Points of one family differ in side only, so that is what stands at them; neighbours' stand apart.
    if pd.isna(point["side"]):
        return
    axes.annotate(
        f"{point['side']:.0f}",
        (point["featurize_seconds"], point["ci_high"] if above else point["ci_low"]),
        xytext=(0, 3 if above else -3),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        fontsize="small",
        color=GREY,
    )
