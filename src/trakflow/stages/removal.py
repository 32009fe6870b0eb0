"""Stages remove and evaluate_removal: which examples are left out, and what became of predictions. No torch."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from trakflow.config.schema import Config
from trakflow.config.shards import batch_count, batch_indices
from trakflow.errors import ConfigError, DataError, StoreError
from trakflow.evaluation.removal import choose_targets, flip_rates, masks_without_highest, mean_interval
from trakflow.layout import Layout
from trakflow.stages.evaluate import write_table
from trakflow.stages.provenance import provenance
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile, content, write_arrays


def removal_method(config: Config) -> str:
    """Return the method whose highest ranked examples this job is about.

    Raises:
        ConfigError: `job.method` names none.
    """
    name = config.job.method
    if name is None or name not in config.removal_methods:
        raise ConfigError(f"job.method={name} is none of {config.removal_methods}; name one of them.")
    return name


def attributed_labels(layout: Layout) -> Int[np.ndarray, " m"]:
    """Return the label of each target whose output is attributed.

    Raises:
        DataError: Targets have no label each, so that no prediction of them can flip.
    """
    file = ArrayFile(layout.targets)
    if "attributed_labels" not in file or len(file.shape("attributed_labels")) != 1:
        raise DataError(
            "removal.counts asks how often a predicted label changes, but the targets do not have one label each; set "
            "removal.counts=[]."
        )
    return file.read("attributed_labels")


def remove(config: Config, layout: Layout) -> None:
    """Write the masks of one batch of targets: all examples but those that a method ranks highest for the target."""
    method, removed = removal_method(config), require(config.job.count, "job.count")
    batch = require(config.job.batch, "job.batch")
    chosen = batch_indices(config.removal.targets, config.evaluation.models_per_batch, batch)
    targets = _targets(config, layout)[chosen.start : chosen.stop]
    masks = masks_without_highest(_scores(config, layout, method, targets), removed, targets.tolist(), config.seed)
    facts = provenance(config, "remove", first=chosen.start, method=method, removed=removed)
    write_arrays(layout.removed(method, removed, batch), {"masks": masks, "targets": targets}, facts)


def _targets(config: Config, layout: Layout) -> Int[np.ndarray, " targets"]:
    # By the models of the first retrain, so that more retrains leave the choice as it is.
    predicted = _on_all(layout, 0, "predicted")
    return choose_targets(predicted, attributed_labels(layout), config.removal.targets, config.seed)


def _on_all(layout: Layout, number: int, name: str) -> np.ndarray:
    file = ArrayFile(layout.trained_on_all(number))
    for fact, data in (("data_content", layout.train), ("target_content", layout.targets)):
        if file.provenance[fact] != content(ArrayFile(data)):
            raise StoreError(
                f"{file.path} was made from other data than {data}. Delete it and run the same command again."
            )
    return file.read(name)


def _scores(
    config: Config, layout: Layout, method: str, targets: Int[np.ndarray, " targets"]
) -> Float[np.ndarray, "n targets"]:
    if method not in config.methods:
        # Nothing ranks the examples, so their order is the random one of equal scores.
        return np.zeros((config.data.train_size, len(targets)))
    count = config.counts_of(method)[-1]
    return np.load(layout.score_array(count, count, method), mmap_mode="r")[:, targets]


def evaluate_removal(config: Config, layout: Layout) -> None:
    """Write how often predictions flip and how far outputs move, for each method and number of removed examples."""
    settings = config.removal
    targets = _targets(config, layout)
    labels = attributed_labels(layout)[targets]
    numbers = range(settings.retrains)
    outputs, predicted = (
        np.concatenate([_on_all(layout, number, name)[:, targets] for number in numbers])
        for name in ("outputs", "predicted")
    )
    before = outputs.mean(axis=0, dtype=np.float64)
    rows = []
    for method in config.removal_methods:
        rows.append(_row(config, method, 0, flip_rates(predicted, labels), np.zeros(len(targets))))
        for removed in sorted(settings.counts):
            after = [_without(config, layout, method, removed, number, targets) for number in numbers]
            change = np.mean([found["outputs"] for found in after], axis=0, dtype=np.float64) - before
            flips = flip_rates(np.stack([found["predicted"] for found in after]), labels)
            rows.append(_row(config, method, removed, flips, change))
    write_table(layout.removal, rows)


def _without(
    config: Config, layout: Layout, method: str, removed: int, number: int, targets: Int[np.ndarray, " targets"]
) -> dict[str, np.ndarray]:
    """Read what the models without the removed examples say of their targets, checked to be about those."""
    batches = range(batch_count(config.removal.targets, config.evaluation.models_per_batch))
    masks = [ArrayFile(layout.removed(method, removed, batch)) for batch in batches]
    files = [ArrayFile(layout.trained_without(method, removed, number, batch)) for batch in batches]
    for file, mask in zip(files, masks, strict=True):
        if file.provenance["masks"] != content(mask):
            raise StoreError(
                f"{file.path} was made without other examples than {mask.path} says. Delete it and run the same "
                "command again."
            )
    if not np.array_equal(np.concatenate([mask.read("targets") for mask in masks]), targets):
        raise StoreError(
            f"{masks[0].path.parent} is about other targets than the models trained on everything give. Delete that "
            "folder and run the same command again."
        )
    return {name: np.concatenate([file.read(name) for file in files]) for name in ("outputs", "predicted")}


def _row(
    config: Config,
    method: str,
    removed: int,
    flips: Float[np.ndarray, " targets"],
    change: Float[np.ndarray, " targets"],
) -> dict[str, Any]:
    settings = config.evaluation
    flipped, moved = (
        mean_interval(values, settings.bootstrap, settings.confidence, config.seed) for values in (flips, change)
    )
    return {
        "method": method,
        "removed": removed,
        "flipped": flipped.value,
        "ci_low": flipped.low,
        "ci_high": flipped.high,
        "output_change": moved.value,
        "output_change_ci_low": moved.low,
        "output_change_ci_high": moved.high,
        "targets": len(flips),
        "retrains": config.removal.retrains,
    }
