"""Stage import_features: features that a TRAKer or another experiment made, checked and taken."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trakflow.config.schema import Config
from trakflow.config.shards import shard_range
from trakflow.errors import CheckpointError, ConfigError, StoreError
from trakflow.features import FeatureSet, stored_features, write_shard
from trakflow.layout import Layout
from trakflow.sketches.base import SketchedBatch
from trakflow.stages.common import device_of, make_task, tensors
from trakflow.stages.featurize import checkpoint_sketch, require_curvature, shard_facts
from trakflow.stages.runner import require
from trakflow.store.array_file import ArrayFile

# Examples of a shard that are featurized again, to see that the features are theirs.
TRIED = 8
# Of the largest entry of an example's features; float16 keeps eleven bits.
TOLERANCE = {"float32": 1e-3, "float16": 5e-3}


def import_features(config: Config, layout: Layout) -> None:
    """Write one shard from features that lie elsewhere, after featurizing a few of its examples again.

    Raises:
        CheckpointError: They were made by another checkpoint.
        StoreError: They are of another number of examples, another sketch or type, or of other examples.
    """
    checkpoint, shard = require(config.job.checkpoint, "job.checkpoint"), require(config.job.shard, "job.shard")
    start, stop = shard_range(config.data.train_size, config.shards, shard)
    data, task = ArrayFile(layout.train), make_task(config)
    require_curvature(config, task)
    source = _source(config, checkpoint)
    tried = np.unique(np.linspace(start, stop - 1, TRIED).astype(int))
    picked = tensors(data, device_of(config), tried)
    sketch = checkpoint_sketch(config, layout, task, checkpoint, picked)
    facts = shard_facts(config, layout, sketch.k, source.seconds * (stop - start) / source.n)
    _require_same_facts(config, source, facts)
    again = sketch(picked)
    again.require_finite(tried.tolist())
    found = SketchedBatch(
        torch.cat([rows.clone() for _, rows in source.phi(start, stop)]),
        _column(source, "outputs", start, stop),
        _column(source, "loss_gradients", start, stop),
        _column(source, "curvatures", start, stop) if "curvatures" in source.files[0] else None,
    )
    _require_same(config, tried, again, found, torch.from_numpy(tried - start))
    stored = stored_features(found.features, config.sketch.dtype)
    write_shard(layout.features(checkpoint, shard), found, stored, config.solver.weights == "on", facts)


def _source(config: Config, checkpoint: int) -> FeatureSet:
    if config.features_from is None:
        raise ConfigError("features_from is not set, so there is nothing to import.")
    folder = Path(Layout(config.features_from).features(checkpoint, 0)).parent
    return FeatureSet(sorted(folder.glob("[0-9]*.safetensors")), weighted=config.solver.weights == "on")


def _column(source: FeatureSet, name: str, start: int, stop: int) -> Tensor:
    return torch.from_numpy(source.column(name, start, stop))


def _require_same_facts(config: Config, source: FeatureSet, facts: dict) -> None:
    theirs = source.provenance
    where = f"The features in {source.files[0].path.parent}"
    if theirs["checkpoint_content"] != facts["checkpoint_content"]:
        raise CheckpointError(
            f"{where} were made by another checkpoint than number {facts['checkpoint']} of this experiment. Give "
            "checkpoints.files in the order of their model_id."
        )
    for key, setting in (("total", "data.train_size"), ("k", "sketch.k"), ("dtype", "sketch.dtype")):
        if theirs[key] != facts[key]:
            raise StoreError(
                f"{where} have {key} {theirs[key]}, but {setting} is {facts[key]}; make them agree, or set "
                "features_from=null to make features here."
            )


def _require_same(config: Config, tried: np.ndarray, again: SketchedBatch, found: SketchedBatch, rows: Tensor) -> None:
    """Compare features, f, Q and W of some examples with those that they have here."""
    theirs, own = found.features[rows], again.features.cpu()
    largest = own.abs().amax(dim=1, keepdim=True)
    wrong = ((own - theirs).abs() > TOLERANCE[config.sketch.dtype] * largest).any(dim=1)
    for name in ("outputs", "loss_gradients", "curvatures"):
        own, theirs = getattr(again, name), getattr(found, name)
        if own is not None and theirs is not None:
            # They are float32 whatever features are kept in.
            wrong |= (own.cpu() - theirs[rows]).abs() > TOLERANCE["float32"] * own.abs().max().cpu()
    if wrong.any():
        raise StoreError(
            f"The features in {config.features_from} are not those of this experiment: example "
            f"{tried[wrong.numpy()][0]}, featurized again, gives others ({int(wrong.sum())} of {len(tried)} tried "
            "differ). Other examples or another order of them, seed, sketch, task or parameters are the causes; make "
            "them agree, or set features_from=null to make features here."
        )
