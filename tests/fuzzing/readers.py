"""Every reader of files that trakflow did not write or cannot trust, with small whole files to begin from."""

import functools
import gzip
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trakflow.config.compose import compose_config
from trakflow.data import cifar10, fashion_mnist, imagenet, sotu
from trakflow.data.arrays import read_array
from trakflow.errors import TrakflowError
from trakflow.features import FeatureSet
from trakflow.models.weights import load_weights, read_state, write_weights
from trakflow.sources.archives import zip_member
from trakflow.stages.tables import read_table
from trakflow.store.array_file import ArrayFile, write_arrays
from trakflow.store.files import read_facts, write_json
from trakflow.traker.records import Gathered, Recorder
from trakflow.traker.workflow_folder import _read_config


@dataclass(frozen=True)
class Reader:
    """A reader, and what it may say.

    Attributes:
        file: The name, below an empty folder, under which it looks for the bytes.
        read: Takes that folder.
        seeds: Makes whole files.
        refusals: Errors by which it refuses a file; whoever calls it turns those that are not `TrakflowError` into one.
    """

    file: str
    read: Callable[[Path], object]
    seeds: Callable[[], Sequence[bytes]]
    refusals: tuple[type[BaseException], ...] = (TrakflowError,)

    def __call__(self, content: bytes) -> bool:
        """Read a file of this content; say whether it was taken."""
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / self.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            try:
                self.read(Path(name))
            except self.refusals as error:
                if not str(error):
                    raise
                return False
            return True


def _written(write: Callable[[Path], object], name: str = "a") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return next(path for path in Path(folder).rglob("*") if path.is_file()).read_bytes()


@functools.cache
def _model():
    import torch

    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))


def _load(path: Path) -> None:
    load_weights(_model(), read_state(path), f"Checkpoint {path}")


def _torch_seeds() -> list[bytes]:
    import torch

    state = _model().state_dict()
    values = [
        state,
        {"state_dict": state, "epoch": 3},
        {"a": torch.zeros(2).to_sparse()},
        {"a": torch.zeros(1).expand(9)},
    ]
    found = [_written(functools.partial(torch.save, value)) for value in values]
    return [*found, _written(functools.partial(torch.save, state, _use_new_zipfile_serialization=False))]


def _shard(path: Path) -> None:
    facts = {"start": 0, "stop": 2, "total": 2, "k": 2, "seconds": 1.0}
    columns = {"loss_gradients": np.ones(2, np.float32), "curvatures": np.ones(2, np.float32)}
    write_arrays(path, {"features": np.eye(2, dtype=np.float32), **columns}, facts)


def _read_shard(folder: Path) -> None:
    file = ArrayFile(folder / "a.safetensors")
    for name in file.names:
        assert len(file.read(name)) == file.shape(name)[0]
    rows = [len(block) for _, block in FeatureSet([file.path], weighted=True).phi()]
    assert sum(rows) == file.shape("features")[0]


def _array_seeds() -> list[bytes]:
    kinds = [
        np.eye(2, dtype=bool),
        np.arange(4.0),
        np.zeros((0, 3), ">i4"),
        np.asfortranarray(np.eye(3, 2)),
        np.float16(2),
    ]
    return [_written(lambda path, array=array: np.save(path, array), "a.npy") for array in kinds]


def _packed(members: dict[str, bytes], mode: str) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return memory.getvalue()


def _speeches(mode: str) -> bytes:
    facts = {"year": 1790, "name": "A Speaker", "text": "We are here. We stay."}
    return _packed({"package/data/1790.json": json.dumps(facts).encode()}, mode)


def _zip_seeds() -> list[bytes]:
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", kind) as archive:
            archive.writestr("a/b.txt", "hello " * 20)
        found.append(memory.getvalue())
    return found


def _image_seeds() -> list[bytes]:
    from PIL import Image

    found = []
    for kind, mode in (("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16")):
        memory = io.BytesIO()
        Image.new(mode, (12, 9)).save(memory, kind)
        found.append(memory.getvalue())
    return found


def _topk(path: Path) -> None:
    pd.DataFrame({"target": [0, 1], "score": [0.5, -0.5]}).to_parquet(path)


def _labels(folder: Path) -> None:
    (folder / "val").mkdir()
    for name in ("a.JPEG", "b.JPEG"):
        (folder / "val" / name).touch()
    imagenet._by_csv(folder / "val", folder / "labels.csv", {"n01": 0, "n02": 1})


IDX = bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3])
CONFIG = b"seed: 0\nsketch: {name: sjlt, k: 8}\ndata: {train_size: 3}\ntask: {_target_: a.b, x: 1e-3}\n"
EXPERIMENT = b"# @package _global_\ndefaults:\n  - override /sketch: sjlt\nsketch: {k: 64}\nmodel:\n  widths: [8]\n"
CIFAR = "cifar-10-batches-bin/test_batch.bin"

READERS = {
    "array_file": Reader("a.safetensors", _read_shard, lambda: [_written(_shard, "a.safetensors")]),
    "npy": Reader("a.npy", lambda folder: read_array(str(folder / "a.npy"), "masks").sum(), _array_seeds),
    "checkpoint": Reader("a.pt", lambda folder: _load(folder / "a.pt"), _torch_seeds),
    "safetensors": Reader(
        "a.safetensors",
        lambda folder: _load(folder / "a.safetensors"),
        lambda: [_written(lambda path: write_weights(path, _model().state_dict()), "a.safetensors")],
    ),
    "json": Reader(
        "a.json",
        lambda folder: read_facts(folder / "a.json", "value", "unit"),
        lambda: [_written(lambda path: write_json(path, {"value": 1.5, "unit": "relative", "curve": [[1], None]}))],
    ),
    "records": Reader(
        "a.records",
        lambda folder: Gathered(folder, 2).read(0, 0),
        lambda: [_written(lambda path: Recorder(path).append({"rows": np.arange(2), "features": np.eye(2)}))],
    ),
    "speeches": Reader(
        sotu.tarball_name(sotu.PACKAGE),
        lambda folder: sotu.read_speeches(str(folder)),
        lambda: [_speeches("w"), _speeches("w:gz")],
    ),
    "cifar10": Reader(
        cifar10.ARCHIVE_NAME,
        lambda folder: cifar10.load("test", str(folder)),
        lambda: [_packed({CIFAR: bytes(2 * 3073)}, "w"), _packed({CIFAR: bytes(3073)}, "w:gz")],
    ),
    "idx": Reader(
        "t10k-labels-idx1-ubyte.gz",
        lambda folder: fashion_mnist._read_idx(folder / "t10k-labels-idx1-ubyte.gz"),
        lambda: [gzip.compress(IDX), IDX],
    ),
    "wheel": Reader("a.whl", lambda folder: zip_member(folder / "a.whl", "a/b.txt"), _zip_seeds, (OSError, KeyError)),
    "image": Reader("a.JPEG", lambda folder: imagenet._decode(folder / "a.JPEG", 8), _image_seeds),
    "csv": Reader(
        "labels.csv", _labels, lambda: [b"ImageId,PredictionString\na,n01 1 2 3 4\nb.JPEG,n02\n", b'"a",n01\n']
    ),
    "table": Reader("a.csv", lambda folder: read_table(folder / "a.csv", ("lds",)), lambda: [b"method,lds\ntrak,.5\n"]),
    "parquet": Reader(
        "a.parquet",
        lambda folder: read_table(folder / "a.parquet", ("target",)),
        lambda: [
            _written(lambda path: pd.DataFrame({"target": [0, 1], "score": [0.5, -0.5]}).to_parquet(path), "a.parquet")
        ],
    ),
    "results_yaml": Reader("config.yaml", lambda folder: _read_config(str(folder / "config.yaml")), lambda: [CONFIG]),
    "experiment_yaml": Reader(
        "config/experiment/fuzzed.yaml",
        lambda folder: compose_config("fuzzed", [], [str(folder / "config")]),
        lambda: [EXPERIMENT],
    ),
}
