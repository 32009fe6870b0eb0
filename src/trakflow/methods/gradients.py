"""Products of gradients, which several methods are made of."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from trakflow.config.attribution import Sketch as SketchSettings
from trakflow.config.compose import sentences
from trakflow.errors import ConfigError
from trakflow.methods.base import Planned, Trained
from trakflow.sketches.base import Sketch, SketchedBatch
from trakflow.sketches.batches import sketched_batches
from trakflow.sketches.build import build_sketch
from trakflow.sketches.memory import examples_at_once

EXACT = SketchSettings(name="identity")


def sketch_settings(sketch: dict[str, Any] | None) -> SketchSettings:
    """Return the settings of a method's own sketch; None for whole gradients.

    Raises:
        ConfigError: They are no sketch's.
    """
    if sketch is None:
        return EXACT
    try:
        return SketchSettings.model_validate(sketch)
    except ValidationError as error:
        # What concerns the sketch as a whole has no name of a setting before it.
        found = "; ".join(line.strip().removeprefix("config: ") for line in sentences(error))
        raise ConfigError(f"A method's `sketch` cannot be made: {found}") from None


def one_example(trained: Trained) -> dict[str, Tensor]:
    """Return the first training example, a batch of one."""
    return {name: array[:1] for name, array in trained.train.items()}


def gradients(trained: Trained, settings: SketchSettings) -> Iterator[tuple[int, SketchedBatch]]:
    """Yield the gradients of f of the training examples, batch by batch, with the position of the first one."""
    sketch = _sketch(trained, settings)
    return sketched_batches(sketch, trained.train, _batch_size(trained, sketch), 0, "gradients")


def target_gradients(trained: Trained, settings: SketchSettings) -> Float[Tensor, "m k"]:
    """Return the gradients of f of all targets.

    Raises:
        ConfigError: They do not fit the memory.
    """
    sketch = _sketch(trained, settings)
    _require_memory(trained, sketch, len(next(iter(trained.targets.values()))))
    found = sketched_batches(sketch, trained.targets, _batch_size(trained, sketch), 0, "gradients of targets")
    return torch.cat([batch.features for _, batch in found])


def check_gradients(planned: Planned, settings: SketchSettings) -> None:
    """Refuse what `gradients` and `target_gradients` of all targets would refuse.

    Raises:
        ConfigError: The gradients of all targets do not fit the memory, or the sketch does not fit the model.
        SketchError: It does not cover the model.
    """
    sketch = _sketch(planned.trained, settings)
    _require_memory(planned.trained, sketch, planned.targets)
    sketch.try_on(planned.trained.train)


def _require_memory(trained: Trained, sketch: Sketch, count: int) -> None:
    if 4 * count * sketch.k > trained.memory_bytes:
        raise ConfigError(
            f"Gradients of {count} targets with {sketch.k} entries take {4 * count * sketch.k >> 20} MiB, which "
            "runtime.memory_mb does not allow; raise it, or give the method a sketch."
        )


def _sketch(trained: Trained, settings: SketchSettings) -> Sketch:
    return build_sketch(settings, trained.model, trained.task, trained.seed, trained.number, trained.device)


def _batch_size(trained: Trained, sketch: Sketch) -> int:
    bytes_per_example, budget = sketch.bytes_per_example(one_example(trained)), trained.memory_bytes // 2
    return min(trained.batch_size, examples_at_once(bytes_per_example, budget, trained.device))
