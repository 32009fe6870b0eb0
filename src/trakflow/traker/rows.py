"""The rows of one model, or of its targets, while they arrive."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from trakflow.errors import DataError
from trakflow.features import stored_features
from trakflow.sketches.base import SketchedBatch
from trakflow.store.array_file import ArrayFile
from trakflow.traker.hashes import HASH_BYTES
from trakflow.traker.records import ROWS, Recorder, read_records

HASHES = "hashes"
FEATURES = "features"
OUTPUTS = "outputs"
LOSS_GRADIENTS = "loss_gradients"
CURVATURES = "curvatures"
SECONDS = "seconds"

log = logging.getLogger("trakflow")


class KnownExamples:
    """Which example has which number, by its hashes: the same number must mean the same example for all models.

    Args:
        total: How many there are.
        exact: Whether an example must be the same in everything; if not, floating tensors may differ, as augmented
            images do, with a warning.
        what: What they are called in messages.
    """

    def __init__(self, total: int, exact: bool, what: str):
        self._known = np.zeros(total, bool)
        self._hashes = np.zeros((total, 2, HASH_BYTES), np.uint8)
        self._exact = exact
        self._what = what
        self._warned = False

    def check(self, rows: Int64[np.ndarray, " size"], hashes: UInt8[np.ndarray, "size 2 16"]) -> None:
        """Refuse examples that are not what those of their numbers were.

        Raises:
            DataError: Names the first that differs.
        """
        again = self._known[rows]
        differing = again[:, None] & (self._hashes[rows] != hashes).any(axis=2)
        wrong = differing[:, int(self._exact)]
        if wrong.any():
            raise DataError(
                f"{self._what} {int(rows[wrong][0])} is not the one that had this number before. Numbers must mean the "
                "same examples for every model and every run: use a loader that does not shuffle, or give inds. "
                + ("Other targets need another exp_name." if self._exact else "Other data need another save_dir.")
            )
        if differing.any() and not self._warned:
            self._warned = True
            log.warning(
                "%s %d has other inputs than before under the same labels, as by augmentation; scores then mix "
                "gradients of different inputs. Turn augmentation off.",
                self._what,
                int(rows[differing.any(axis=1)][0]),
            )

    def note(self, rows: Int64[np.ndarray, " size"], hashes: UInt8[np.ndarray, "size 2 16"]) -> None:
        """Remember examples that are in a file."""
        self._known[rows] = True
        self._hashes[rows] = hashes


class Rows:
    """Rows that are or are not there, of one folder of record files.

    Args:
        folder: The folder.
        total: How many there are to be.
        known: What their examples are.
        packed: The files in which all of them lie already, in order; none where they are still records.

    Raises:
        DataError: What is there was made from other examples than those that are known.
    """

    def __init__(self, folder: Path, total: int, known: KnownExamples, packed: Sequence[ArrayFile]):
        self._known = known
        self._recorder = Recorder(folder)
        self._done = np.full(total, bool(packed))
        first = 0
        for file in packed:
            # Files of the workflow, which has one set of data, do not say.
            if HASHES in file:
                hashes = file.read(HASHES)
                self._meet(np.arange(first, first + len(hashes)), hashes)
                first += len(hashes)
        if packed:
            return
        for record in read_records(folder):
            arrays = record.read([ROWS, HASHES])
            self._meet(arrays[ROWS], arrays[HASHES])
            self._done[arrays[ROWS]] = True

    def _meet(self, rows: Int64[np.ndarray, " size"], hashes: UInt8[np.ndarray, "size 2 16"]) -> None:
        self._known.check(rows, hashes)
        self._known.note(rows, hashes)

    @classmethod
    def there(cls, folder: Path, total: int, known: KnownExamples, packed: Callable[[], Sequence[ArrayFile]]) -> "Rows":
        """Look at what is there, while other processes may be packing it.

        Args:
            folder: The folder.
            total: How many there are to be.
            known: What their examples are.
            packed: The files in which all of them lie, if they do.

        Raises:
            DataError: As the class.
        """
        try:
            return cls(folder, total, known, packed())
        except FileNotFoundError:
            # Records go when they have been packed.
            return cls(folder, total, known, packed())

    def check(self, rows: Int64[np.ndarray, " size"], hashes: UInt8[np.ndarray, "size 2 16"]) -> None:
        """Refuse examples that are not what those of their numbers were, and remember those that are there already.

        Raises:
            DataError: Names the first that differs.
        """
        self._known.check(rows, hashes)
        there = self._done[rows]
        self._known.note(rows[there], hashes[there])

    def missing(self, rows: Int64[np.ndarray, " size"]) -> Bool[np.ndarray, " size"]:
        """Which of some rows are not there yet."""
        return ~self._done[rows]

    def add(
        self,
        rows: Int64[np.ndarray, " size"],
        hashes: UInt8[np.ndarray, "size 2 16"],
        found: SketchedBatch,
        dtype: str,
        seconds: float,
    ) -> None:
        """Keep what was computed of some rows.

        Args:
            rows: Their numbers.
            hashes: Of their examples.
            found: On the CPU.
            dtype: In which features are kept.
            seconds: How long it took.

        Raises:
            NumericalError: Something is NaN or Inf, or does not fit the type.
            StoreError: It cannot be written.
        """
        found.require_finite(rows.tolist())
        arrays = {
            ROWS: rows,
            HASHES: hashes,
            FEATURES: stored_features(found.features, dtype),
            OUTPUTS: found.outputs.numpy(),
            LOSS_GRADIENTS: found.loss_gradients.numpy(),
            SECONDS: np.full(len(rows), seconds / len(rows), np.float32),
        }
        if found.curvatures is not None:
            arrays[CURVATURES] = found.curvatures.numpy()
        self._recorder.append(arrays)
        self._known.note(rows, hashes)
        self._done[rows] = True
