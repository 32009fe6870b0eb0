"""CIFAR-10's readers on generated files of the published forms; nothing is downloaded."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from trakflow.data import cifar10
from trakflow.errors import DataError

EACH = 4


@pytest.fixture
def generated(monkeypatch):
    """Pixels and labels of six files, and their checksums in place of the published ones."""
    random = np.random.default_rng(0)
    files = {
        name: (random.integers(0, 256, (EACH, 3, 32, 32), np.uint8), np.array([3, 5, 3, 9], np.uint8))
        for name in [*cifar10.FILES["train"], *cifar10.FILES["test"]]
    }
    sums = {}
    for part, names in cifar10.FILES.items():
        arrays = [np.concatenate([files[name][place] for name in names]) for place in (0, 1)]
        sums[part] = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays)
    monkeypatch.setattr(cifar10, "CHECKSUMS", sums)
    return files


def binary(images, labels):
    return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).astype(np.uint8).tobytes()


def archive(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, raw in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            file.addfile(entry, io.BytesIO(raw))


def png(images):
    buffer = io.BytesIO()
    Image.fromarray(images.transpose(0, 2, 3, 1).reshape(len(images), -1, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, form, files, monkeypatch):
    folder.mkdir()
    if form == "files":
        for name, content in files.items():
            (folder / f"{name}.bin").write_bytes(binary(*content))
    elif form == "archive":
        members = {f"cifar-10-batches-bin/{name}.bin": binary(*content) for name, content in files.items()}
        archive(folder / cifar10.ARCHIVE_NAME, members)
    else:
        members = {f"package/{name}.png": png(images) for name, (images, _) in files.items()}
        for part, names in cifar10.FILES.items():
            labels = np.concatenate([files[name][1] for name in names]).tolist()
            members[f"package/{part}_lables.json"] = json.dumps(labels).encode()
        archive(folder / cifar10.NPM_NAME, members)
        monkeypatch.setattr(cifar10, "NPM_CHECKSUM", cifar10.file_hash(folder / cifar10.NPM_NAME))


@pytest.mark.parametrize("form", ["files", "archive", "npm"])
def test_every_published_form_gives_the_same_images(generated, form, tmp_path, monkeypatch):
    write(tmp_path / "data", form, generated, monkeypatch)
    images, labels = cifar10.load("train", str(tmp_path / "data"))
    np.testing.assert_array_equal(images, np.concatenate([generated[name][0] for name in cifar10.FILES["train"]]))
    assert labels.tolist() == [3, 5, 3, 9] * 5
    assert labels.dtype == np.int64


def test_classes_are_renamed_and_draws_nested(generated, tmp_path, monkeypatch):
    write(tmp_path / "data", "files", generated, monkeypatch)
    folder = str(tmp_path / "data")
    all_of_two = cifar10.train(15, classes=[5, 3], folder=folder)
    few = cifar10.train(6, classes=[5, 3], folder=folder)
    assert sorted(all_of_two.arrays["labels"].tolist()) == [0] * 5 + [1] * 10
    assert list(all_of_two.ids[:6]) == list(few.ids)
    images, labels = cifar10.load("train", folder)
    for name, image, label in zip(few.ids, few.arrays["inputs"], few.arrays["labels"], strict=True):
        number = int(name.removeprefix("train-"))
        assert [5, 3][label] == labels[number]
        pixels = (image * np.array(cifar10.STANDARD_DEVIATION)[:, None, None]) + np.array(cifar10.MEAN)[:, None, None]
        np.testing.assert_allclose(pixels * 255, images[number], atol=1e-3)


def test_what_cannot_be_is_refused(generated, tmp_path, monkeypatch):
    write(tmp_path / "data", "files", generated, monkeypatch)
    folder = str(tmp_path / "data")
    with pytest.raises(DataError, match="has 15 of these classes"):
        cifar10.train(16, classes=[3, 5], folder=folder)
    with pytest.raises(DataError, match="different numbers from 0 to 9"):
        cifar10.train(2, classes=[3, 10], folder=folder)
    with pytest.raises(DataError, match="correct data's `folder`"):
        cifar10.train(2, folder=str(tmp_path))
    (tmp_path / "data" / "data_batch_3.bin").write_bytes(binary(generated["test_batch"][0], np.zeros(EACH, np.uint8)))
    with pytest.raises(DataError, match="sha256 of its train part differs"):
        cifar10.train(2, folder=folder)


def test_a_tarball_that_is_not_the_published_one_is_not_read(tmp_path):
    (tmp_path / cifar10.NPM_NAME).write_bytes(b"anything")
    with pytest.raises(DataError, match="nothing in it was read"):
        cifar10.train(2, folder=str(tmp_path))
