"""The one style, and writing a figure in all its forms."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.figure import Figure

from trakflow.config.schema import Figures
from trakflow.layout import Layout
from trakflow.store import atomic_path

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


def save_figure(figure: Figure, table: pd.DataFrame, layout: Layout, name: str) -> None:
    """Write `name`.csv, .svg and .png; each is whole or absent."""
    with atomic_path(layout.figure(name, "csv")) as temporary:
        table.to_csv(temporary, index=False)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        with atomic_path(Path(layout.figure(name, suffix))) as temporary:
            figure.savefig(temporary, metadata=metadata)
