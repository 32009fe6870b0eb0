"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 images of 28 x 28 pixels in ten classes, MIT licence.

The four files are looked for in this order: a folder that the user names, Debian's package `dataset-fashion-mnist`
where it is installed, that package downloaded and unpacked without root, and the official archive. Whatever the source,
the decompressed bytes are checked: the compressed ones differ between Debian and upstream.
"""

import gzip
import hashlib
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from trakflow.data.examples import Examples
from trakflow.errors import DataError
from trakflow.seeds import generator
from trakflow.sources.commands import run
from trakflow.sources.keeping import alone, first_that_works
from trakflow.sources.web import download
from trakflow.store.files import atomic_path

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DEBIAN_PACKAGE = "dataset-fashion-mnist"
OFFICIAL_ARCHIVE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def train(size: int = 2000, folder: str | None = None, cache: str = "results/downloads/fashion_mnist") -> Examples:
    """Return `size` training images drawn once and for all from the 60,000.

    Args:
        size: How many; the draw for a smaller size is the beginning of that for a larger one.
        folder: Where the four `.gz` files lie; None looks for them.
        cache: Where a download is kept.

    Returns:
        inputs (size x 1 x 28 x 28, float32 in [0, 1]) and labels.

    Raises:
        DataError: The files cannot be had, are not the published ones, or hold fewer images.
    """
    return _part("train", size, folder, cache)


def targets(size: int = 300, folder: str | None = None, cache: str = "results/downloads/fashion_mnist") -> Examples:
    """Return `size` test images drawn once and for all from the 10,000; arguments as for `train`."""
    return _part("t10k", size, folder, cache)


def _part(part: str, size: int, folder: str | None, cache: str) -> Examples:
    images = _read_idx(find_file(f"{part}-images-idx3-ubyte.gz", folder, cache))
    labels = _read_idx(find_file(f"{part}-labels-idx1-ubyte.gz", folder, cache))
    if size > len(labels):
        raise DataError(f"{size} images were asked for, but this part of Fashion-MNIST has {len(labels)}.")
    chosen = generator("fashion_mnist", part).permutation(len(labels))[:size]
    inputs = images[chosen, None].astype(np.float32) / 255
    return Examples(
        {"inputs": inputs, "labels": labels[chosen].astype(np.int64)}, [f"{part}-{index}" for index in chosen]
    )


def _read_idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes, checked against the published contents."""
    try:
        with gzip.open(path) as file:
            # More than any of the published files has.
            raw = file.read(1 << 26)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable gzip file ({error}); delete it to have it fetched again.") from error
    if hashlib.sha256(raw).hexdigest() != CHECKSUMS[path.name]:
        raise DataError(
            f"{path} does not hold the published Fashion-MNIST data (sha256 differs); delete it to have it fetched "
            "again."
        )
    dimensions = raw[3]
    shape = np.frombuffer(raw, dtype=">u4", count=dimensions, offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape.astype(int))


def find_file(name: str, folder: str | None, cache: str) -> Path:
    """Return the path of one of the four files, fetching it if nobody has it.

    Raises:
        DataError: It is not in the named folder, or every source failed; says how each did.
    """
    if folder is not None:
        if not (Path(folder) / name).is_file():
            raise DataError(
                f"{folder} holds no {name}; correct data's `folder`, or set it to null to have the file fetched."
            )
        return Path(folder) / name
    for place in (SYSTEM_FOLDER, Path(cache)):
        if (place / name).is_file():
            return place / name
    # The jobs that prepare training examples and targets start together; one of them fetches for both.
    kept = Path(cache)
    with alone(kept):
        if not (kept / name).is_file():
            first_that_works(
                f"Fashion-MNIST's {name}",
                {"debian": lambda: _from_debian(name, kept), "archive": lambda: _from_archive(name, kept)},
                f"Install Debian's package {DEBIAN_PACKAGE}, or download the four .gz files and name their folder with "
                "data.train.folder and data.targets.folder.",
            )
    return kept / name


def _from_debian(name: str, cache: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(["apt-get", "download", DEBIAN_PACKAGE], Path(folder))
        package = next(Path(folder).glob("*.deb"))
        run(["dpkg-deb", "-x", package.name, "."], Path(folder))
        _keep(Path(folder) / SYSTEM_FOLDER.relative_to("/") / name, cache / name)


def _from_archive(name: str, cache: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _keep(download(f"{OFFICIAL_ARCHIVE}/{name}", Path(folder) / name), cache / name)


def _keep(source: Path, destination: Path) -> None:
    with atomic_path(destination) as temporary:
        shutil.copyfile(source, temporary)
