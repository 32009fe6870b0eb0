"""Draw `results/benchmarks/featurize.csv`: each sketch's time in units of a plain forward and backward pass."""

import argparse
import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models import MODELS
from peers import PEERS
from sketches import FEATURIZE
from trakflow.config.compose import compose_config
from trakflow.figures.style import GREY, apply_style
from trakflow.store.files import atomic_path

MARKERS = {1: "v", 16: "o", 64: "s", 256: "D"}


def draw(table: pd.DataFrame, targets: dict[str, float]) -> Figure:
    """Draw one panel a model: a line a sketch, a mark a batch size, on a logarithmic axis.

    Args:
        table: What `featurize.py` wrote.
        targets: A ratio to mark in a model's panel, by model.
    """
    measured = table[table["not_run"].isna()]
    models = [name for name in MODELS if name in set(measured["model"])]
    lines = [line for line in FEATURIZE if line.label in set(measured["sketch"])]
    figure, panels = plt.subplots(
        1,
        len(models),
        figsize=(2.8 + 2.5 * len(models), 1.5 + 0.34 * len(lines)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axes, name in zip(panels[0], models, strict=True):
        _panel(axes, measured[measured["model"] == name], [line.label for line in lines])
        axes.set_title(MODELS[name].title)
        if name in targets:
            axes.axvline(targets[name], color=GREY, linestyle=":", label="target")
    panels[0][0].set_yticks(range(len(lines)), [_title(line.label, line.title) for line in lines])
    panels[0][0].invert_yaxis()
    figure.supxlabel("time to featurize a batch / time of a plain forward + backward pass", fontsize="medium")
    handles: dict[str, Artist] = {}
    for axes in panels[0]:
        handles.update({label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)})
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure


def _title(label: str, title: str) -> str:
    return f"{title} (other package)" if label in PEERS else title


def _panel(axes: Axes, rows: pd.DataFrame, labels: list[str]) -> None:
    axes.axvline(1, color=GREY, linestyle="--", label="forward + backward")
    for number, (size, marker) in enumerate(MARKERS.items()):
        part = rows[rows["batch"] == size]
        if part.empty:
            continue
        # Batches below each other, so that equal ratios stay visible.
        heights = [labels.index(label) + 0.2 * (number - 1.5) for label in part["sketch"]]
        # Bars from quartile to quartile around the median, as far as the spread says: half of it to each side.
        ratio, half = part["ratio_to_forward_backward"], part["spread"].fillna(0) / 2
        below = half.clip(upper=0.9 * ratio)
        axes.errorbar(
            ratio, heights, xerr=[below, half], fmt=marker, markersize=4, color=f"C{number}", label=f"batch {size}"
        )
    for height, label in enumerate(labels):
        if label not in set(rows["sketch"]):
            axes.annotate("not measured", (0.98, height), xycoords=("axes fraction", "data"), color=GREY, ha="right")
    axes.set_xscale("log")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)


def _target(text: str) -> tuple[str, float]:
    model, _, ratio = text.partition("=")
    if model not in MODELS:
        raise argparse.ArgumentTypeError(f"'{text}' names no model; write one of {', '.join(MODELS)}, =, and a ratio.")
    return model, float(ratio)


def main() -> None:
    """Write the figure as svg and png beside the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", default="results/benchmarks/featurize.csv")
    parser.add_argument("--target", action="append", type=_target, default=[], metavar="MODEL=RATIO")
    options = parser.parse_args()
    apply_style(compose_config("digits").figures)
    table = pd.read_csv(options.table)
    if table["not_run"].notna().all():
        sys.exit(f"{options.table} holds no measured row, so there is nothing to draw.")
    figure = draw(table, dict(options.target))
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with atomic_path(Path(options.table).with_suffix(f".{suffix}")) as temporary:
            figure.savefig(temporary, metadata=metadata)


if __name__ == "__main__":
    main()
