"""The stages that draw; each figure is a rule of its own."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trakflow.config.schema import Config
from trakflow.data.examples import read_ids, read_texts
from trakflow.evaluation.lds import predicted_outputs
from trakflow.figures.gallery import as_image, gallery
from trakflow.figures.lds_vs_checkpoints import lds_vs_checkpoints
from trakflow.figures.mislabel import mislabel
from trakflow.figures.predicted_vs_actual import predicted_vs_actual
from trakflow.figures.removal import removal
from trakflow.figures.self_lds import no_self_lds, self_lds
from trakflow.figures.style import apply_style, save_figure
from trakflow.figures.text_gallery import text_gallery, with_texts
from trakflow.figures.top_groups import shown_groups, top_groups
from trakflow.layout import Layout
from trakflow.ranks import rank_correlations
from trakflow.stages.evaluate import evaluation_data
from trakflow.stages.tables import read_table
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import read_facts
from trakflow.store.numpy_files import map_numpy


def draw_lds_vs_checkpoints(config: Config, layout: Layout) -> None:
    """Draw LDS against the number of checkpoints."""
    apply_style(config.figures)
    table = read_table(layout.lds)
    save_figure(lds_vs_checkpoints(table, config.evaluation.confidence), table, layout, "lds_vs_checkpoints")


def draw_predicted_vs_actual(config: Config, layout: Layout) -> None:
    """Draw one target's predicted against its actual outputs."""
    apply_style(config.figures)
    target, total = config.figures.shown_target, config.checkpoints.total
    masks, outputs = evaluation_data(config, layout)
    scores = map_numpy(layout.score_array(total, total))[:, target : target + 1]
    actual = outputs[:, :, target]
    spread = actual.std(axis=0, ddof=1) if len(actual) > 1 else np.full(actual.shape[1], np.nan)
    predicted = predicted_outputs(np.asarray(scores), masks)
    columns = {
        "subset": np.arange(len(masks)),
        "predicted": predicted[:, 0],
        "actual": actual.mean(axis=0),
        "actual_sd": spread,
    }
    table = pd.DataFrame(columns)
    correlation = rank_correlations(predicted, actual.mean(axis=0)[:, None])[0]
    file = ArrayFile(layout.targets)
    name = read_ids(file)[target]
    if "attributed_labels" in file and len(file.shape("attributed_labels")) == 1:
        label = int(file.read("attributed_labels")[target])
        name += f", label {config.data.class_names[label] if config.data.class_names else label}"
    save_figure(predicted_vs_actual(table, name, float(correlation)), table, layout, "predicted_vs_actual")


def draw_removal(config: Config, layout: Layout) -> None:
    """Draw what becomes of predictions when the examples that methods rank highest are left out."""
    apply_style(config.figures)
    table = read_table(layout.removal)
    save_figure(removal(table, config.evaluation.confidence), table, layout, "removal")


def draw_mislabel(config: Config, layout: Layout) -> None:
    """Draw how precisely each method's self-influence finds wrong labels."""
    apply_style(config.figures)
    table, curves = read_table(layout.mislabel), read_table(layout.mislabel_curve)
    save_figure(mislabel(table, curves, config.evaluation.confidence), curves, layout, "mislabel")


def draw_self_lds(config: Config, layout: Layout) -> None:
    """Draw the self-LDS curve, or say why the ridge was not chosen by it."""
    apply_style(config.figures)
    ridge = read_facts(layout.ridge(config.checkpoints.total), "value", "unit", "rule")
    if "curve" in ridge:
        table = pd.DataFrame(ridge["curve"])
        save_figure(self_lds(table, ridge["value"], ridge["checkpoints"]), table, layout, "self_lds")
        return
    reason = {
        "given": f"No self-LDS: the ridge was given, {ridge['value']:g} ({ridge['unit']}).",
        "mean diagonal of the Gram matrix": "No self-LDS: there is one checkpoint, or it is not known\n"
        "what the checkpoints were trained on (checkpoints.masks).\nThe ridge is the mean diagonal of the Gram matrix.",
    }[ridge["rule"]]
    save_figure(no_self_lds(reason), pd.DataFrame(columns=["ridge", "self_lds", "standard_error"]), layout, "self_lds")


def draw_gallery(config: Config, layout: Layout) -> None:
    """Draw targets with their most helpful and most harmful examples."""
    apply_style(config.figures)
    save_figure(*drawn_gallery(config, layout), layout, "gallery")


def drawn_gallery(config: Config, layout: Layout) -> tuple[Figure, pd.DataFrame]:
    """Return the gallery and its table."""
    settings = config.figures
    table = read_table(layout.score_topk)
    table = table[
        table["target"].isin(_gallery_targets(config)) & (table["rank"] <= settings.gallery_examples)
    ].reset_index(drop=True)
    files = [ArrayFile(path) for path in (layout.train, layout.targets)]
    inputs = [
        _chosen_inputs(file, table[column]) for file, column in zip(files, ("train_index", "target"), strict=True)
    ]
    train, targets = (read_texts(file, "texts") for file in files)
    names = config.data.class_names
    if train is None or targets is None:
        return gallery(table, inputs[0], inputs[1], names), table
    table = with_texts(table, train, targets)
    if as_image(next(iter(inputs[1].values()))) is not None:
        return gallery(table, inputs[0], inputs[1], names, (train, targets)), table
    return text_gallery(table, train, targets, names, read_texts(files[0], "groups")), table


def _chosen_inputs(file: ArrayFile, rows: pd.Series) -> dict[int, np.ndarray]:
    # A few of what may be more than memory holds. What has another name is no image, and is shown as its text or id.
    if "inputs" not in file:
        return {int(row): np.empty(0) for row in rows.unique()}
    return {int(row): file.read("inputs", int(row), int(row) + 1)[0] for row in rows.unique()}


def draw_top_groups(config: Config, layout: Layout) -> None:
    """Draw targets with the groups of training examples that raise or lower their output most."""
    apply_style(config.figures)
    best = read_table(layout.group_topk)
    table = shown_groups(best, _gallery_targets(config).tolist(), config.figures.gallery_examples)
    save_figure(top_groups(table, config.data.class_names), table, layout, "top_groups")


def _gallery_targets(config: Config) -> np.ndarray:
    count = config.data.target_count
    return np.linspace(0, count - 1, min(config.figures.gallery_targets, count)).astype(int)
