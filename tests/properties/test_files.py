"""Files that lie about themselves: what they hold is read as it is, or they are refused by name."""

import hashlib
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from trakflow.data import imagenet, sotu
from trakflow.errors import DataError, StoreError, TrakflowError
from trakflow.features import FeatureSet
from trakflow.sources import archives
from trakflow.store.array_file import ArrayFile, write_arrays
from trakflow.store.files import read_facts, read_json
from trakflow.store.headers import METADATA
from trakflow.traker.records import Gathered, Recorder, read_records
from trakflow.traker.workflow_folder import _read_config

DEEP = "[" * 100_000
LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FACTS = {
    "stage": "featurize",
    "version": 1,
    "start": 0,
    "stop": 4,
    "total": 4,
    "k": 2,
    "dtype": "float32",
    "seconds": 1.0,
}
ARRAYS = {
    "features": np.arange(8, dtype=np.float32).reshape(4, 2),
    "loss_gradients": np.ones(4, np.float32),
    "curvatures": np.ones(4, np.float32),
}


def places(value, path=()):
    yield path
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(inner, (*path, name))


def sealed(facts):
    """As `trakflow.store.headers.sealed_header`, of anything."""
    text = json.dumps(facts)
    return {METADATA: json.dumps({"facts": text, "sha256": hashlib.sha256(text.encode()).hexdigest()})}


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


@given(st.data())
def test_an_array_file_whose_header_was_forged_is_read_as_it_is_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("forged") / "0.safetensors"
    write_arrays(path, ARRAYS, FACTS)
    honest = ArrayFile(path)
    facts = {"provenance": honest.provenance, "checksums": honest.checksums}
    place = data.draw(st.sampled_from(sorted(places(facts), key=str)))
    forged = replaced(facts, place, data.draw(JSON))
    save_file(ARRAYS, path, metadata=sealed(forged))
    try:
        found = {name: ArrayFile(path).read(name) for name in ArrayFile(path).names}
        shards = FeatureSet([path], weighted=True)
        rows = np.concatenate([block.numpy() for _, block in shards.phi()])
    except StoreError as error:
        assert str(path) in str(error)
        return
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())
    assert np.array_equal(rows, ARRAYS["features"])


@given(JSON.map(json.dumps) | st.text(max_size=20) | st.just(DEEP) | st.just('{"a": ' + "1" * 5000 + "}"))
def test_any_text_is_json_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_bytes(text.encode("utf8", "surrogatepass"))
    for read in (read_json, lambda path: read_facts(path, "value", "unit")):
        try:
            read(path)
        except StoreError as error:
            assert str(path) in str(error)


@given(st.data())
def test_records_that_were_forged_are_refused_or_what_they_were(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("records")
    Recorder(folder).append({"rows": np.array([1, 0]), "features": ARRAYS["features"][:2]})
    path = next(folder.iterdir())
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    place = data.draw(st.sampled_from(sorted(places(header), key=str)))
    text = json.dumps(replaced(header, place, data.draw(JSON))).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    try:
        gathered = Gathered(folder, 2)
        found = gathered.read(0, 2, ["features"]) if gathered.present.all() else {}
    except StoreError as error:
        assert str(path) in str(error)
        return
    if "features" in found:
        assert np.array_equal(found["features"], ARRAYS["features"][[1, 0]])


def test_records_of_examples_that_there_are_not_are_refused(tmp_path):
    Recorder(tmp_path).append({"rows": np.array([0, 7])})
    assert len(list(read_records(tmp_path))) == 1
    with pytest.raises(StoreError, match="other examples than 0 to 2"):
        Gathered(tmp_path, 3)


def packed(name, content, mode):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return memory.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_read_only_as_far_as_the_limit(mode, tmp_path, monkeypatch):
    (tmp_path / "a.tar").write_bytes(packed("a/b.txt", bytes(100_000), mode))
    assert archives.tar_member(tmp_path / "a.tar", "a/b.txt") == bytes(100_000)
    with pytest.raises(KeyError):
        archives.tar_member(tmp_path / "a.tar", "a/c.txt")
    monkeypatch.setattr(archives, "LIMIT", 50_000)
    for read in (archives.tar_member, archives.tar_members):
        with pytest.raises(OSError, match="more than 50000 bytes"):
            read(tmp_path / "a.tar", "a/b.txt")


def test_a_zip_archive_is_read_only_as_far_as_the_limit(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", bytes(100_000))
    assert archives.zip_member(tmp_path / "a.zip", "a/b.txt") == bytes(100_000)
    monkeypatch.setattr(archives, "LIMIT", 50_000)
    with pytest.raises(OSError, match="more than 50000 bytes"):
        archives.zip_member(tmp_path / "a.zip", "a/b.txt")


@given(st.data())
def test_a_damaged_archive_is_an_oserror(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("tar") / "a.tgz"
    raw = bytearray(packed("a/b.txt", b"hello" * 50, data.draw(st.sampled_from(["w", "w:gz"]))))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, min(len(raw), 600) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        archives.tar_members(path, "*")
    except (OSError, KeyError):
        return


@pytest.mark.parametrize(
    "text", [DEEP, "[1]", '{"year": 1, "name": "a", "text": 5}', '{"year": 1, "name": "a", "text": "\\ud800"}']
)
def test_a_speech_of_another_form_is_refused(text, tmp_path):
    (tmp_path / sotu.tarball_name(sotu.PACKAGE)).write_bytes(packed("package/data/1790.json", text.encode(), "w:gz"))
    with pytest.raises(DataError, match="cannot be read"):
        sotu.read_speeches(str(tmp_path))


def image_folder(folder, write):
    (folder / "train" / "n01").mkdir(parents=True)
    write(folder / "train" / "n01" / "n01_0.JPEG")
    return imagenet.train(str(folder), 1, side=128)


def as_format(kind, size=(40, 40)):
    return lambda path: Image.new("RGB", size).save(path, kind)


def test_a_png_by_another_name_is_an_image(tmp_path):
    assert image_folder(tmp_path, as_format("PNG")).arrays["inputs"][0:1].shape == (1, 3, 128, 128)


@pytest.mark.parametrize(
    "write",
    [
        as_format("EPS"),  # Pillow would start Ghostscript to read it
        as_format("GIF"),
        as_format("JPEG", (1, 60_000)),  # resized it would take gigabytes
        lambda path: path.write_bytes(b"\xff\xd8\xff\xe0 no image"),
    ],
)
def test_what_is_no_image_of_imagenet_is_refused(write, tmp_path):
    with pytest.raises(DataError, match=r"n01_0\.JPEG cannot be read as an image"):
        _ = image_folder(tmp_path, write).arrays["inputs"][0:1]


def test_a_csv_that_is_none_is_refused(tmp_path):
    image_folder(tmp_path, as_format("JPEG"))
    (tmp_path / "val").mkdir()
    as_format("JPEG")(tmp_path / "val" / "v_1.JPEG")
    for content in (b"\xff\xfe,n01\n", b"a," + b'"' * 200_001):
        (tmp_path / "labels.csv").write_bytes(content)
        with pytest.raises(DataError, match=r"labels\.csv"):
            imagenet.targets(str(tmp_path), 1, 32, str(tmp_path / "labels.csv"))


ALIASES = "a: &a [1,1]\nb: &b [*a,*a]\nsketch: {k: 1, name: x}\nseed: 0\ndata: {train_size: 1}\ntask: {_target_: a.b}\n"


@pytest.mark.parametrize("text", [DEEP, ALIASES, "seed: 0\nsketch: 1\ndata: {}\ntask: {}", "{? {} : 1}", "\ud800"])
def test_the_configuration_of_a_results_folder_is_read_or_refused(text, tmp_path):
    (tmp_path / "config.yaml").write_bytes(text.encode("utf8", "surrogatepass"))
    with pytest.raises(StoreError, match=r"config\.yaml cannot be read"):
        _read_config(str(tmp_path / "config.yaml"))


@given(st.binary(max_size=60))
def test_any_bytes_are_no_array_file(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrakflowError, match=r"a\.safetensors"):
        ArrayFile(path)
