"""The one style, and writing a figure in all its forms."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

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
KINDS = ("-", "--", "-.")
# A method of these has the same style in every figure, whichever others are in it.
PLACES = (
    "tracin",
    "gas",
    "representation_similarity",
    "influence_function",
    "influence_arnoldi",
    "ekfac",
    "traker",
    "dattri",
    "empirical_influence",
    "datamodel",
)
# Of methods that are not called as their settings are.
NAMES = {
    TRAK: "TRAK",
    "tracin": "TracIn",
    "gas": "GAS",
    "influence_function": "influence function (CG)",
    "influence_arnoldi": "influence function (Arnoldi)",
    "ekfac": "EK-FAC",
}


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
    return _styles(count, _palette())


def method_styles(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the style of each method's line: of a known one always the same, of others by their order."""
    # TRAK has the first colour for itself and lies on top; random scores take no colour from the others.
    first, *rest = _palette()
    given = [name for name in dict.fromkeys(methods) if name not in (TRAK, RANDOM) and not _is_sized(name)]
    sized = [name for name in dict.fromkeys(methods) if _is_sized(name)]
    names = [*PLACES, *(name for name in given if name not in PLACES)]
    styles = dict(zip(names, _styles(len(names), rest or [first]), strict=True))
    return {
        TRAK: {"color": first, "marker": MARKERS[0], "linestyle": "-", "linewidth": 2.0, "zorder": 3},
        # TRAK with another k keeps its colour.
        **{
            name: {
                "color": first,
                "marker": MARKERS[1 + number % (len(MARKERS) - 1)],
                "linestyle": KINDS[1 + number % (len(KINDS) - 1)],
                "linewidth": 1.2,
                "zorder": 3,
            }
            for number, name in enumerate(sized)
        },
        **{name: styles[name] for name in given},
        RANDOM: {"color": GREY, "marker": "x", "linestyle": ":", "linewidth": 1.2},
    }


def _is_sized(method: str) -> bool:
    return method.startswith(f"{TRAK} ")


def _palette() -> list[str]:
    return list(mpl.rcParams["axes.prop_cycle"].by_key()["color"])


def _styles(count: int, colours: Sequence[str]) -> list[dict[str, Any]]:
    found = [
        {
            "color": colours[number % len(colours)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": KINDS[number // len(colours) % len(KINDS)],
            "linewidth": 1.2,
        }
        for number in range(count)
    ]
    assert len({tuple(style.values()) for style in found}) == count
    return found


def lds_limits(table: pd.DataFrame, others: Sequence[float] = ()) -> tuple[float, float]:
    """Return the limits of an axis for the LDS of a table with its intervals, its noise ceiling and other values."""
    highest = max([table["ci_high"].max(), *table["ceiling"].dropna(), *others])
    return min(0.0, 1.1 * float(table["ci_low"].min())), min(1.0, 1.07 * highest)


def number_decades(axis: Axis, numbered: Sequence[int]) -> None:
    """Number a logarithmic axis at these multiples of each power of ten, and nowhere between, where numbers overlap."""
    axis.set_major_locator(LogLocator(subs=numbered))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_of(axes: Axes) -> tuple[list[Any], list[str]]:
    """Return handles and labels for a legend: what has bars first, and then lines without."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(handles)), key=lambda number: not isinstance(handles[number], ErrorbarContainer))
    return [handles[number] for number in order], [labels[number] for number in order]


def method_name(method: str) -> str:
    """Return a method's name as figures show it."""
    # TRAK with another k says it in brackets.
    name, space, rest = method.partition(" ")
    return NAMES.get(name, name.replace("_", " ")) + space + rest


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
