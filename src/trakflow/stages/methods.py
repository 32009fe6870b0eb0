"""Stages of the methods beside TRAK: scores of one or several checkpoints, and the scores of a method."""

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch

from trakflow.config.schema import Config
from trakflow.config.shards import batch_count
from trakflow.errors import ConfigError, NumericalError, StoreError
from trakflow.evaluation.costs import piece_of
from trakflow.evaluation.retrained import read_batches
from trakflow.layout import FITTING, Layout
from trakflow.methods.base import CheckpointMethod, CheckpointsMethod, Method, PlainMethod, RetrainedMethod, Scores
from trakflow.stages.components import instantiate
from trakflow.stages.provenance import NOT_OF_SCORES, method_provenance, run_facts
from trakflow.stages.runner import require
from trakflow.stages.timing import log_seconds
from trakflow.stages.trained import FirstCheckpoints
from trakflow.store.array_file import ArrayFile, content, write_arrays
from trakflow.store.files import file_hash, write_json
from trakflow.store.numpy_files import write_numpy
from trakflow.topk import TopExamples

Kind = TypeVar("Kind", CheckpointMethod, CheckpointsMethod, RetrainedMethod, PlainMethod)

KINDS: dict[str, type[Method]] = {
    "checkpoint": CheckpointMethod,
    "checkpoints": CheckpointsMethod,
    "retrained": RetrainedMethod,
    "neither": PlainMethod,
}


def attribute_checkpoint(config: Config, layout: Layout) -> None:
    """Write the scores of all targets by one checkpoint and one method."""
    name, checkpoint = _name(config), require(config.job.checkpoint, "job.checkpoint")
    method = _make(config, name, CheckpointMethod)  # type: ignore[type-abstract]
    scores = _checked(method.scores(FirstCheckpoints(config, layout, checkpoint + 1)[checkpoint]), config, name)
    facts = {"checkpoint": checkpoint, "checkpoint_content": file_hash(layout.checkpoint(checkpoint))}
    _write(config, layout, layout.method_part(name, checkpoint), scores, facts)


def attribute_checkpoints(config: Config, layout: Layout) -> None:
    """Write the scores of all targets by the first checkpoints and one method."""
    name, count = _name(config), require(config.job.count, "job.count")
    method = _make(config, name, CheckpointsMethod)  # type: ignore[type-abstract]
    scores = _checked(method.scores(FirstCheckpoints(config, layout, count)), config, name)
    contents = [file_hash(layout.checkpoint(checkpoint)) for checkpoint in range(count)]
    facts = {"count": count, "checkpoint_contents": contents}
    _write(config, layout, layout.method_count(name, count), scores, facts)


def _write(config: Config, layout: Layout, path: str, scores: Scores, facts: dict[str, Any]) -> None:
    data = {"data_content": content(ArrayFile(layout.train)), "target_content": content(ArrayFile(layout.targets))}
    write_arrays(path, {"scores": scores}, method_provenance(config, _name(config), **facts, **data))


def attribute(config: Config, layout: Layout) -> None:
    """Write a method's scores for each number of checkpoints or retrained subsets; for all also the top examples."""
    name = _name(config)
    counts = config.counts_of(name)
    reads = config.method[name].reads
    began = perf_counter()
    for count, scores in _FOUND[reads](config, layout, name):
        write_numpy(layout.score_array(count, counts[-1], name), scores)
        log_seconds(piece_of(count), perf_counter() - began)
        # An average goes on from that of fewer checkpoints; other scores are made from the start.
        began = began if reads == "checkpoint" else perf_counter()
    # The last is that of all of them.
    top = TopExamples(config.scores.topk)
    top.add(0, 0, scores)
    top.write(layout, layout.method_topk(name))
    write_json(layout.method_provenance(name), {**run_facts(config, *NOT_OF_SCORES), "method": name, "counts": counts})


def _averages(config: Config, layout: Layout, name: str) -> Iterator[tuple[int, Scores]]:
    counts = config.counts_of(name)
    total = np.zeros((config.data.train_size, config.data.target_count))
    paths = [layout.method_part(name, checkpoint) for checkpoint in range(counts[-1])]
    for count, scores in enumerate(_parts(layout, paths), start=1):
        total += scores
        if count in counts:
            yield count, (total / count).astype(np.float32)


def _averaged_by_itself(config: Config, layout: Layout, name: str) -> Iterator[tuple[int, Scores]]:
    counts = config.counts_of(name)
    return zip(counts, _parts(layout, [layout.method_count(name, count) for count in counts]), strict=True)


def _parts(layout: Layout, paths: Sequence[str]) -> Iterator[Scores]:
    data, targets = content(ArrayFile(layout.train)), content(ArrayFile(layout.targets))
    for path in paths:
        part = ArrayFile(path)
        if (part.provenance["data_content"], part.provenance["target_content"]) != (data, targets):
            raise StoreError(f"{part.path} was made from other data. Delete it and run the same command again.")
        yield part.read("scores")


def _fitted(config: Config, layout: Layout, name: str) -> Iterator[tuple[int, Scores]]:
    method = _make(config, name, RetrainedMethod)  # type: ignore[type-abstract]
    counts = config.counts_of(name)
    batches = batch_count(counts[-1], config.evaluation.models_per_batch)
    masks, outputs = read_batches(layout, config.fitting.retrains, batches, FITTING)
    for count in counts:
        scores = method.scores(masks[:count], outputs[:, :count].mean(axis=0), config.seed)
        yield count, _checked(scores, config, name)


def _plain(config: Config, layout: Layout, name: str) -> Iterator[tuple[int, Scores]]:
    method = _make(config, name, PlainMethod)  # type: ignore[type-abstract]
    yield 1, _checked(method.scores(config.data.train_size, config.data.target_count, config.seed), config, name)


_FOUND = {"checkpoint": _averages, "checkpoints": _averaged_by_itself, "retrained": _fitted, "neither": _plain}


def _name(config: Config) -> str:
    name = config.job.method
    if name is None or name not in config.method:
        raise ConfigError(f"job.method={name} is none of the methods {sorted(config.method)}; name one of them.")
    return name


def make_method(config: Config, name: str) -> Method:
    """Instantiate a method.

    Raises:
        ConfigError: It refuses its settings, or is of another kind than `reads` says.
    """
    settings = config.method[name]
    method, kind = instantiate(settings.make, f"method.{name}.make"), KINDS[settings.reads]
    if not isinstance(method, kind):
        raise ConfigError(
            f"method.{name} reads {settings.reads}, so its `make` ({settings.make['_target_']}) must return a "
            f"{kind.__module__}.{kind.__name__}, but returned a {type(method).__name__}."
        )
    return method


def _make(config: Config, name: str, kind: type[Kind]) -> Kind:
    method = make_method(config, name)
    if not isinstance(method, kind):
        raise ConfigError(f"method.{name} reads {config.method[name].reads}, so that this stage is not for it.")
    return method


def _checked(found: Any, config: Config, name: str) -> Scores:
    scores = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    expected = (config.data.train_size, config.data.target_count)
    if scores.shape != expected:
        raise ConfigError(f"Method {name} returned scores of shape {scores.shape}; expected {expected}.")
    if not np.isfinite(scores).all():
        targets = np.flatnonzero(~np.isfinite(scores).all(axis=0))
        raise NumericalError(
            f"Scores of method {name} for {len(targets)} targets, {targets[0]} the first, are NaN or Inf."
        )
    return scores.astype(np.float32)
