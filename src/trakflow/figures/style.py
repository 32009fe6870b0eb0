"""The one style, and writing a figure in all its forms."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from trakflow.config.evaluation import Figures
from trakflow.layout import RANDOM, TRAK, Layout
from trakflow.store.files import atomic_path

# Equal figures are equal bytes.
WITHOUT_DATES: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
}
GREY = "#6b6b6b"
# So that lines can be told apart without their colours.
MARKERS = "os^Dv*PX"


def apply_style(settings: Figures) -> None:
    """Set matplotlib's parameters; figures are drawn without a display and equal inputs give equal bytes."""
    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "font.size": settings.font_size,
            "axes.titlesize": settings.font_size,
            "axes.prop_cycle": cycler(color=settings.palette),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "savefig.dpi": settings.dpi,
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "trakflow",
        }
    )


def line_styles(count: int) -> list[dict[str, Any]]:
    """Return colour, marker and kind of line for each of `count` lines, no two alike."""
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    kinds = ("-", "--", "-.")
    found = [
        {
            "color": colours[number % len(colours)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": kinds[number // len(colours) % len(kinds)],
        }
        for number in range(count)
    ]
    assert len({tuple(style.values()) for style in found}) == count
    return found


def method_styles(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the style of each method's line, by their order: the same in figures of the same methods."""
    # Random scores are no method that takes a colour from the others.
    names = [name for name in dict.fromkeys(methods) if name != RANDOM]
    styles = dict(zip(names, line_styles(len(names)), strict=True))
    return {**styles, RANDOM: {"color": GREY, "marker": "x", "linestyle": ":"}}


def legend_of(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return handles and labels for a legend: what has bars first, and then lines without."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda number: not isinstance(handles[number], ErrorbarContainer))
    return [handles[number] for number in order], [labels[number] for number in order]


def method_name(method: str) -> str:
    """Return a method's name as figures show it."""
    return "TRAK" if method == TRAK else method.replace("_", " ")


def save_figure(figure: Figure, table: pd.DataFrame, layout: Layout, name: str) -> None:
    """Write `name`.csv, .svg and .png; each is whole or absent."""
    _save(figure, table, partial(layout.figure, name), ("svg", "png"))


def save_paper_figure(figure: Figure, table: pd.DataFrame, layout: Layout, name: str, caption: str) -> None:
    """Write a figure of the paper's set: as `save_figure`, and `name`.pdf and .txt, its caption."""
    _save(figure, table, partial(layout.paper, name), ("svg", "png", "pdf"))
    with atomic_path(layout.paper(name, "txt")) as temporary:
        temporary.write_text(caption, encoding="utf8")


def _save(figure: Figure, table: pd.DataFrame, path: Callable[[str], str], suffixes: Sequence[str]) -> None:
    with atomic_path(path("csv")) as temporary:
        table.to_csv(temporary, index=False)
    for suffix in suffixes:
        with atomic_path(Path(path(suffix))) as temporary:
            figure.savefig(temporary, metadata=WITHOUT_DATES[suffix])
