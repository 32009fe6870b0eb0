"""From rows that arrived to the files of the workflow: shards of features, target features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from jaxtyping import UInt8

from trakflow.config.stages import VERSIONS
from trakflow.errors import StoreError
from trakflow.features import FeatureSet, write_shard
from trakflow.sketches.base import SketchedBatch
from trakflow.store.array_file import ArrayFile, write_arrays
from trakflow.traker.folder import SaveDir
from trakflow.traker.records import Gathered, delete_records
from trakflow.traker.rows import CURVATURES, FEATURES, HASHES, LOSS_GRADIENTS, OUTPUTS, SECONDS


class MissingRowsError(StoreError):
    """Examples or targets have not been featurized."""


# Of one shard, which is in memory at once.
SHARD_BYTES = 1 << 28


def is_packed(save_dir: SaveDir, model_id: int) -> bool:
    """Whether the features of a model are complete in shards, which are written in order.

    Raises:
        StoreError: The last shard is damaged.
    """
    if not (shards := save_dir.shards(model_id)):
        return False
    last = ArrayFile(shards[-1]).provenance
    return bool(last["stop"] == last["total"])


def packed_features(save_dir: SaveDir, model_id: int) -> list[ArrayFile]:
    """Return the shards of a model whose features are complete in them; none if they are not."""
    return [ArrayFile(path) for path in save_dir.shards(model_id)] if is_packed(save_dir, model_id) else []


def packed_targets(save_dir: SaveDir, name: str, model_id: int) -> list[ArrayFile]:
    """Return the file with a model's target features, if it is there."""
    path = save_dir.target_features(name, model_id)
    return [ArrayFile(path)] if path.is_file() else []


def pack_features(
    save_dir: SaveDir, model_id: int, total: int, weighted: bool, settings: Mapping[str, Any]
) -> FeatureSet:
    """Return the features of a model in shards, made now from its records where they are not there yet.

    Args:
        save_dir: The folder.
        model_id: The model.
        total: Number of training examples.
        weighted: Whether W weights the rows of the Gram matrix.
        settings: What features depend on.

    Raises:
        StoreError: Examples have not been featurized; names how many and which are the first.
    """
    if not is_packed(save_dir, model_id):
        try:
            _write_shards(save_dir, model_id, total, weighted, settings)
        except (FileNotFoundError, MissingRowsError):
            # Another process may have packed them, and deleted the records meanwhile.
            if not is_packed(save_dir, model_id):
                raise
    if not save_dir.of_workflow:
        delete_records(save_dir.records(model_id))
    return FeatureSet(save_dir.shards(model_id), weighted)


def _write_shards(save_dir: SaveDir, model_id: int, total: int, weighted: bool, settings: Mapping[str, Any]) -> None:
    gathered = Gathered(save_dir.records(model_id), total)
    _require_complete(gathered, f"model_id={model_id}: training examples", "featurize")
    first = gathered.read(0, 1)[FEATURES]
    rows = max(1, SHARD_BYTES // first.nbytes)
    facts = {
        "stage": "featurize",
        "version": VERSIONS["featurize"],
        **_facts(save_dir, model_id, gathered, settings, first.shape[1], str(first.dtype)),
        "total": total,
    }
    for shard, start in enumerate(range(0, total, rows)):
        stop = min(start + rows, total)
        arrays = gathered.read(start, stop)
        own = {**facts, "start": start, "stop": stop, "seconds": float(arrays[SECONDS].sum())}
        path = save_dir.layout.features(model_id, shard)
        write_shard(path, _batch(arrays), arrays[FEATURES], weighted, own, {HASHES: arrays[HASHES]})


def pack_targets(save_dir: SaveDir, name: str, model_id: int, total: int, settings: Mapping[str, Any]) -> Path:
    """Return the file with a model's target features, made now from records where it is not there yet.

    Raises:
        StoreError: Targets have not been scored; names how many and which are the first.
    """
    path, records = save_dir.target_features(name, model_id), save_dir.target_records(name, model_id)
    if not path.is_file():
        try:
            _write_targets(path, save_dir, (name, model_id, total), settings)
        except (FileNotFoundError, MissingRowsError):
            # As for features.
            if not path.is_file():
                raise
    delete_records(records)
    return path


def _write_targets(path: Path, save_dir: SaveDir, which: tuple[str, int, int], settings: Mapping[str, Any]) -> None:
    name, model_id, total = which
    gathered = Gathered(save_dir.target_records(name, model_id), total)
    _require_complete(gathered, f"exp_name='{name}', model_id={model_id}: targets", "score")
    arrays = gathered.read(0, total)
    k = arrays[FEATURES].shape[1]
    facts = {
        **_facts(save_dir, model_id, gathered, settings, k, "float32"),
        # In everything: targets are not augmented.
        "data_content": _content(arrays[HASHES][:, 1]),
    }
    kept = {"features": arrays[FEATURES], "outputs": arrays[OUTPUTS], HASHES: arrays[HASHES]}
    write_arrays(path, kept, {"stage": "featurize_targets", "version": VERSIONS["featurize_targets"], **facts})


def _facts(
    save_dir: SaveDir, model_id: int, gathered: Gathered, settings: Mapping[str, Any], k: int, dtype: str
) -> dict[str, Any]:
    hashes = gathered.read(0, len(gathered.present), [HASHES])[HASHES]
    return {
        "settings": settings["fingerprint"],
        "checkpoint": model_id,
        "checkpoint_content": save_dir.checkpoint_content(model_id),
        # Of what augmentation leaves alone.
        "data_content": _content(hashes[:, 0]),
        "gradients": settings["fingerprint"],
        "k": k,
        "dtype": dtype,
    }


def _content(hashes: UInt8[np.ndarray, "total 16"]) -> str:
    return xxhash.xxh3_128(hashes.tobytes()).hexdigest()


def _batch(arrays: Mapping[str, np.ndarray]) -> SketchedBatch:
    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(arrays[name])

    return SketchedBatch(
        tensor(FEATURES).float(),
        tensor(OUTPUTS),
        tensor(LOSS_GRADIENTS),
        tensor(CURVATURES) if CURVATURES in arrays else None,
    )


def _require_complete(gathered: Gathered, what: str, call: str) -> None:
    missing = np.flatnonzero(~gathered.present)
    if len(missing):
        named = ", ".join(map(str, missing[:5])) + (" and more" if len(missing) > 5 else "")
        raise MissingRowsError(
            f"{what} {named} are missing ({len(missing)} of {len(gathered.present)}); call {call} for them first."
        )
