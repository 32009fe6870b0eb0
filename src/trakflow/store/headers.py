"""The header of an array file: what is in it, sealed when it is written and mistrusted when it is read."""

import hashlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trakflow.store.checksums import CHECKSUM, block_starts, rows_per_block

METADATA = "trakflow"
# What safetensors calls the types that numpy has.
TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


def sealed_header(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an array file, with a checksum of its own; its length depends on that of `facts` alone."""
    text = json.dumps(facts, sort_keys=True)
    # One entry: safetensors writes several in an order that differs from run to run.
    return {METADATA: json.dumps({"facts": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})}


def unsealed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a file's metadata.

    Raises:
        LookupError, TypeError, ValueError: They are not there, or not as they were sealed.
    """
    entry = json.loads(metadata[METADATA])
    if hashlib.sha256(entry["facts"].encode()).hexdigest() != entry["sha256"]:
        raise ValueError("its header is damaged")
    return json.loads(entry["facts"])


class Place(NamedTuple):
    """Where in a file an array lies."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one leading row."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))


def places_of(path: Path) -> dict[str, Place]:
    """Read where each array lies from a header that `safe_open` has found to be sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: Place(np.dtype(TYPES[entry["dtype"]]), tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def require_sound(provenance: object, checksums: object, places: Mapping[str, Place]) -> None:
    """Refuse what no writer of ours wrote: whoever can write a file can write a header that lies.

    Raises:
        ValueError: Something is missing, or of another type or length than the arrays need.
    """
    if not isinstance(provenance, dict) or not isinstance(checksums, dict) or set(places) != set(checksums):
        raise ValueError("its header is damaged")
    for name, place in places.items():
        entry = checksums[name]
        if not isinstance(entry, dict) or CHECKSUM not in entry:
            raise ValueError("an older version of trakflow wrote it, with other checksums")
        digests, rows = entry[CHECKSUM], entry.get("rows")
        if not place.shape or type(rows) is not int or not isinstance(digests, list):
            raise ValueError("its header is damaged")
        if math.prod(max(length, 1) for length in place.shape) > sys.maxsize // 8:
            raise ValueError("its header is damaged")
        if rows != rows_per_block(place.shape, place.dtype.itemsize) or len(digests) != len(
            block_starts(place.shape[0], rows)
        ):
            raise ValueError("its header is damaged")
