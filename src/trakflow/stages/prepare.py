"""Stages prepare_train and prepare_targets: the data set, checked, as arrays on disk."""

from dataclasses import replace

import numpy as np

from trakflow.config.schema import Config
from trakflow.data.examples import FLIPPED, Examples, as_examples, check_examples, write_examples
from trakflow.data.groups import groups_of_examples
from trakflow.errors import ConfigError, DataError
from trakflow.layout import Layout
from trakflow.stages.components import instantiate
from trakflow.stages.provenance import provenance


def prepare_train(config: Config, layout: Layout) -> None:
    """Write the training examples.

    Targets whose labels checkpoints predict are prepared after these, and so are looked at here.
    """
    examples = as_examples(instantiate(config.data.train, "data.train"))
    check_examples(examples, config.data.train_size, config.data.num_classes, "data.train_size")
    if config.mislabel and FLIPPED not in examples.arrays:
        raise DataError(
            f"mislabel=true, but data.train does not say which labels are wrong; wrap it in "
            f"trakflow.data.mislabelled.mislabelled, or return Examples with an array '{FLIPPED}' (n, bool)."
        )
    if config.scores.groups is not None:
        groups_of_examples(examples, config.scores.groups, config.data.class_names)
    if config.targets.output == "predicted":
        _targets(config)
    write_examples(layout.train, examples, provenance(config, "prepare_train"))


def prepare_targets(config: Config, layout: Layout) -> None:
    """Write the targets, with the label whose output is attributed."""
    examples = _targets(config)
    if config.targets.output != "true_label":
        labels = (
            _predicted(config, layout, examples) if config.targets.output == "predicted" else _chosen(config, examples)
        )
        examples = replace(examples, arrays={**examples.arrays, "attributed_labels": labels})
    elif "labels" in examples.arrays:
        examples = replace(examples, arrays={**examples.arrays, "attributed_labels": examples.arrays["labels"]})
    write_examples(layout.targets, examples, provenance(config, "prepare_targets", output=config.targets.output))


def _targets(config: Config) -> Examples:
    examples = as_examples(instantiate(config.data.targets, "data.targets"))
    check_examples(examples, config.data.target_count, config.data.num_classes, "data.target_count")
    return examples


def _chosen(config: Config, examples: Examples) -> np.ndarray:
    if "labels" not in examples.arrays:
        raise ConfigError(f"targets.output={config.targets.output} chooses a label, but the targets have none.")
    return np.full(len(examples), config.targets.output, dtype=np.int64)


def _predicted(config: Config, layout: Layout, examples: Examples) -> np.ndarray:
    """The label that most checkpoints predict (the lowest of equals), so that all models are asked about the same."""
    # Imported here: the other outputs need no model, and torch takes longer to import than data to prepare.
    import torch

    from trakflow.stages.common import device_of, load_model, make_task
    from trakflow.tasks.running import floating_type, run_model

    task, device, size = make_task(config), device_of(config), config.runtime.forward_batch_size
    votes = []
    for checkpoint in range(config.checkpoints.total):
        model = load_model(config, layout.checkpoint(checkpoint))
        dtype, predicted = floating_type(model), []
        with torch.no_grad():
            for start in range(0, len(examples), size):
                rows = {name: torch.from_numpy(array[start : start + size]) for name, array in examples.arrays.items()}
                batch = {name: value.to(device) for name, value in rows.items()}
                predicted.append(task.predicted(run_model(task, model, batch, dtype)).cpu())
        votes.append(torch.cat(predicted))
    return torch.stack(votes).mode(dim=0).values.numpy().astype(np.int64)
