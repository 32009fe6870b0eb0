"""Stage draw_paper: one figure of the paper's set, in every form, with its caption."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from trakflow.config.schema import Config
from trakflow.config.variants import cheap_variants, is_largest, sketch_variants, variants
from trakflow.errors import ConfigError
from trakflow.figures.captions import caption
from trakflow.figures.lds_vs_checkpoints import lds_vs_checkpoints
from trakflow.figures.lds_vs_compute import lds_vs_compute
from trakflow.figures.mislabel import mislabel
from trakflow.figures.paper import ablation, cheap_checkpoints, sketches_and_ridges
from trakflow.figures.removal import removal
from trakflow.figures.style import apply_style, save_paper_figure
from trakflow.layout import Layout
from trakflow.stages.figures import drawn_gallery
from trakflow.stages.provenance import run_facts
from trakflow.stages.tables import read_table
from trakflow.store.files import read_facts, write_json

Drawn = tuple[Figure, pd.DataFrame]


def draw_paper(config: Config, layout: Layout) -> None:
    """Draw the figure that `job.figure` names."""
    name = config.job.figure
    if name is None or name not in FIGURES:
        raise ConfigError(f"job.figure={name} is none of {', '.join(FIGURES)}; name one of them.")
    apply_style(config.figures)
    figure, table = FIGURES[name](config, layout)
    measured = read_facts(layout.forward_backward, "seconds", "passes", "threads", "machine", "parameters")
    facts = {"experiment": Path(layout.root).name, **measured}
    if name == "lds_vs_compute":
        facts["repeats"] = int(table.loc[table["checkpoints"] > 0, "repeats"].min())
    save_paper_figure(figure, table, layout, name, caption(name, config, facts))
    write_json(layout.paper(name, "json"), run_facts(config, "job"))


def _compute(config: Config, layout: Layout) -> Drawn:
    table, unit = read_table(layout.compute), read_facts(layout.forward_backward, "seconds")["seconds"]
    return lds_vs_compute(table, unit, config.evaluation.confidence, config.figures.published), table


def _checkpoints(config: Config, layout: Layout) -> Drawn:
    table = read_table(layout.lds)
    return lds_vs_checkpoints(table, config.evaluation.confidence), table


def _sketches(config: Config, layout: Layout) -> Drawn:
    names = sketch_variants(config)
    by_k, by_ridge = [], []
    for (sketch, k), name in names.items():
        variant = Layout(layout.variant(name))
        by_k.append(read_table(variant.lds).iloc[[-1]].assign(sketch=sketch, k=k))
        if is_largest(config, sketch, k):
            by_ridge.append(read_table(variant.ridge_curve).assign(sketch=sketch, k=k))
    first, second = pd.concat(by_k), pd.concat(by_ridge)
    table = pd.concat([first.assign(against="k"), second.assign(against="ridge")])
    return sketches_and_ridges(first, second, config.evaluation.confidence), table


def _ablation(config: Config, layout: Layout) -> Drawn:
    table = read_table(layout.ablation)
    return ablation(table, config.evaluation.confidence), table


def _cheap(config: Config, layout: Layout) -> Drawn:
    found = []
    texts = cheap_variants(config)
    for variant in variants(config):
        if variant.name in texts:
            rows = read_table(Layout(layout.variant(variant.name)).lds)
            passes = rows["checkpoints"].map(variant.training_passes)
            found.append(rows.assign(checkpoints_of=texts[variant.name], training_passes=passes))
    table = pd.concat(found)
    return cheap_checkpoints(table, config.evaluation.confidence), table


def _removal(config: Config, layout: Layout) -> Drawn:
    table = read_table(layout.removal)
    return removal(table, config.evaluation.confidence), table


def _mislabel(config: Config, layout: Layout) -> Drawn:
    table, curves = read_table(layout.mislabel), read_table(layout.mislabel_curve)
    found = table[["method", "average_precision", "ci_low", "ci_high"]]
    return mislabel(table, curves, config.evaluation.confidence), curves.merge(found, on="method")


FIGURES: dict[str, Callable[[Config, Layout], Drawn]] = {
    "lds_vs_compute": _compute,
    "lds_vs_checkpoints": _checkpoints,
    "sketches": _sketches,
    "ablation": _ablation,
    "cheap_checkpoints": _cheap,
    "gallery": drawn_gallery,
    "removal": _removal,
    "mislabel": _mislabel,
}
