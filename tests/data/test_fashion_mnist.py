import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from trakflow.data import fashion_mnist
from trakflow.errors import DataError

NAMES = list(fashion_mnist.CHECKSUMS)


@pytest.fixture
def tiny(tmp_path):
    """Four well-formed files of three images each."""
    for name in NAMES:
        shape = (3, 28, 28) if "images" in name else (3,)
        header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
        (tmp_path / name).write_bytes(gzip.compress(header + bytes(int(np.prod(shape)))))
    return tmp_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The published files: those of Debian's package, installed or downloaded."""
    if all((fashion_mnist.SYSTEM_FOLDER / name).is_file() for name in NAMES):
        return str(fashion_mnist.SYSTEM_FOLDER)
    if shutil.which("apt-get") is None:
        pytest.skip("the Debian package is not installed and there is no apt-get to download it")
    cache = tmp_path_factory.mktemp("fashion_mnist")
    try:
        for name in NAMES:
            fashion_mnist.find_file(name, None, str(cache))
    except DataError as error:
        pytest.skip(f"the files can be neither found nor downloaded here: {error}")
    return str(cache)


def test_other_images_than_the_published_ones_are_refused(tiny):
    for part in (fashion_mnist.train, fashion_mnist.targets):
        with pytest.raises(
            DataError, match=r"images-idx3-ubyte\.gz does not hold the published Fashion-MNIST data.*sha256"
        ):
            part(2, folder=str(tiny))


def test_a_folder_without_the_files_is_refused_and_nothing_is_downloaded_in_its_place(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=rf"{folder} holds no train-images-idx3-ubyte\.gz.*null"):
            fashion_mnist.train(2, folder=str(folder))


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "empty", "damaged inside"])
def test_files_that_cannot_be_decompressed_are_refused(tiny, damage):
    path = tiny / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[:-9], "not gzip": b"GIF89a" * 9, "empty": b"", "damaged inside": whole[:10] + b"\xff" * 20}[
            damage
        ]
    )
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        fashion_mnist.train(2, folder=str(tiny))


def test_the_published_data_has_its_shapes_ranges_and_labels(folder):
    for part, name, total in ((fashion_mnist.train, "train", 60_000), (fashion_mnist.targets, "t10k", 10_000)):
        examples = part(500, folder=folder)
        inputs, labels = examples.arrays["inputs"], examples.arrays["labels"]
        assert inputs.shape == (500, 1, 28, 28)
        assert inputs.dtype == np.float32
        assert inputs.min() == 0
        assert inputs.max() == 1
        assert set(labels) == set(range(10))
        indices = [int(identity.removeprefix(f"{name}-")) for identity in examples.ids]
        assert len(set(indices)) == 500
        assert max(indices) < total
        # By hand: the images follow a header of 16 bytes, the labels one of 8.
        images = gzip.decompress(Path(folder, f"{name}-images-idx3-ubyte.gz").read_bytes())
        wanted = np.frombuffer(images, dtype=np.uint8, count=784, offset=16 + 784 * indices[7])
        np.testing.assert_array_equal(np.rint(inputs[7].ravel() * 255), wanted)
        raw = gzip.decompress(Path(folder, f"{name}-labels-idx1-ubyte.gz").read_bytes())
        assert labels[7] == raw[8 + indices[7]]


def test_a_smaller_size_is_the_beginning_of_a_larger_one(folder):
    small, large = fashion_mnist.targets(20, folder=folder), fashion_mnist.targets(90, folder=folder)
    assert list(small.ids) == list(large.ids[:20])
    np.testing.assert_array_equal(small.arrays["inputs"], large.arrays["inputs"][:20])


def test_more_than_there_are_is_refused(folder):
    with pytest.raises(DataError, match=r"10001 images were asked for.* has 10000"):
        fashion_mnist.targets(10_001, folder=folder)
