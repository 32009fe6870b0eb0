import hashlib
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.numpy import load_file

from trakflow.errors import StoreError
from trakflow.store.array_file import ArrayFile, require_agreement, write_arrays
from trakflow.store.files import atomic_path, file_hash, fingerprint, read_json, write_json
from trakflow.store.numpy_files import numpy_file, write_numpy

FACTS = {"stage": "featurize", "start": 0, "stop": 9, "grid": [0.1, 1e-30], "none": None}


def arrays():
    random = np.random.default_rng(0)
    return {
        "features": random.standard_normal((9, 4)).astype(np.float32),
        "half": random.standard_normal((9, 3)).astype(np.float16),
        "double": random.standard_normal(5),
        "labels": np.arange(9),
        "mask": np.arange(9) % 2 == 0,
        "ids": np.arange(18, dtype=np.uint8).reshape(9, 2),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "transposed": np.arange(6.0).reshape(2, 3).T,
    }


def same(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def everything(path):
    """All that a reader can learn from a file: provenance, and each array by both ways of reading."""
    file = ArrayFile(path)
    read = {name: file.read(name) for name in file.names}
    for name, array in read.items():
        parts = [block.copy() for _, block in file.blocks(name)]
        assert same(np.concatenate(parts) if parts else array, array)
    return file.provenance, read


def test_arrays_and_provenance_read_back_as_written(tmp_path):
    write_arrays(tmp_path / "new" / "a.safetensors", arrays(), FACTS)
    facts, read = everything(tmp_path / "new" / "a.safetensors")
    assert facts == FACTS
    assert read.keys() == arrays().keys()
    assert all(same(read[name], array) for name, array in arrays().items())


def test_any_safetensors_reader_opens_the_file(tmp_path):
    write_arrays(tmp_path / "a.safetensors", arrays(), FACTS)
    plain = load_file(tmp_path / "a.safetensors")
    assert all(same(plain[name], array) for name, array in arrays().items())


def test_equal_contents_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_arrays(tmp_path / name, arrays(), dict(reversed(FACTS.items())) if name == "b" else FACTS)
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b")


def test_large_arrays_are_read_in_blocks_that_tile_the_rows(tmp_path):
    large = np.random.default_rng(0).integers(0, 256, (2_500, 1000), dtype=np.uint8)
    write_arrays(tmp_path / "a.safetensors", {"large": large}, {})
    file = ArrayFile(tmp_path / "a.safetensors")
    starts, blocks = zip(*((start, block.copy()) for start, block in file.blocks("large")), strict=True)
    assert len(blocks) == 3
    assert list(starts) == list(file.starts("large")) == np.cumsum([0, *map(len, blocks[:-1])]).tolist()
    assert same(np.concatenate(blocks), large)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0, None, [0, 1048, 2096]), (1047, 1048, [0]), (1048, 1049, [1048]), (1047, 2097, [0, 1048, 2096]), (2096, 1, [])],
)
def test_a_range_of_rows_reads_only_the_blocks_that_hold_it(tmp_path, first, last, expected):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"large": np.zeros((2_500, 1000), dtype=np.uint8)}, {})
    assert [start for start, _ in ArrayFile(path).blocks("large", first, last)] == expected


def test_a_file_that_is_not_being_read_is_not_open(tmp_path):
    for number in range(3):
        write_arrays(tmp_path / str(number), arrays(), {})
    before = set(os.listdir("/dev/fd"))
    files = [ArrayFile(tmp_path / str(number)) for number in range(3)]
    assert same(files[0].read("half"), arrays()["half"])
    assert set(os.listdir("/dev/fd")) == before


def test_a_file_that_was_cut_or_removed_after_it_was_opened_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": np.arange(1000.0)}, {})
    file = ArrayFile(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StoreError, match=r"a\.safetensors: rows 0 to 999 of 'x'.*checksum"):
        file.read("x")
    path.unlink()
    with pytest.raises(StoreError, match=r"a\.safetensors cannot be read"):
        file.read("x")


def test_a_file_with_the_checksums_of_an_older_version_is_refused(tmp_path):
    from safetensors.numpy import save_file

    facts = json.dumps({"provenance": {}, "checksums": {"x": {"rows": 3, "sha256": ["0"]}}})
    sealed = json.dumps({"facts": facts, "sha256": hashlib.sha256(facts.encode()).hexdigest()})
    save_file({"x": np.ones(3)}, tmp_path / "a.safetensors", metadata={"trakflow": sealed})
    with pytest.raises(StoreError, match=r"older version.*Delete it and run the same command again"):
        ArrayFile(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("first", "last"), [(0, 10), (3, 4), (0, 3), (7, None), (2, 9), (5, 5), (10, None), (4, 99)])
def test_a_range_of_rows_is_that_range_and_damage_outside_its_blocks_does_not_matter(
    tmp_path, monkeypatch, first, last
):
    monkeypatch.setattr("trakflow.store.checksums.BLOCK_BYTES", 3 * 16)
    array = np.arange(40, dtype=np.int32).reshape(10, 4)
    write_arrays(tmp_path / "a.safetensors", {"a": array}, {})
    file = ArrayFile(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(file.read("a", first, last), array[first:last])
    # The last byte of the file lies in the block of row 9 alone.
    with file.path.open("r+b") as raw:
        raw.seek(-1, 2)
        raw.write(b"x")
    touched = first < 10 and (last is None or last > 9)
    if touched:
        with pytest.raises(StoreError, match="rows 9 to 9 of 'a' are not what was written"):
            file.read("a", first, last)
    else:
        np.testing.assert_array_equal(file.read("a", first, last), array[first:last])


def test_a_damaged_block_is_found_when_it_is_reached(tmp_path):
    large = np.zeros((2_500, 1000), dtype=np.uint8)
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"large": large}, {})
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    blocks = ArrayFile(path).blocks("large")
    assert [next(blocks)[0], next(blocks)[0]] == [0, 1048]
    with pytest.raises(StoreError, match=rf"{path}.*rows 2096 to 2499 of 'large'.*checksum"):
        next(blocks)


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path):
    path, damaged = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    written = {"features": arrays()["features"], "labels": np.arange(3)}
    write_arrays(path, written, FACTS)
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << position % 8)]) + whole[position + 1 :])
        try:
            facts, read = everything(damaged)
        except StoreError:
            refused += 1
            continue
        # JSON has bytes that mean nothing, such as the padding of the header.
        assert facts == FACTS, f"byte {position}"
        assert read.keys() == written.keys(), f"byte {position}"
        assert all(same(read[name], array) for name, array in written.items()), f"byte {position}"
    assert refused > 0.95 * len(whole)


@pytest.mark.parametrize(
    ("old", "new"), [(b'"F32"', b'"I32"'), (b"[9,4]", b"[4,9]"), (b'"x":{', b'"z":{'), (b"[7]", b"[8]")]
)
def test_a_header_that_describes_other_arrays_of_as_many_bytes_is_refused(tmp_path, old, new):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"features": arrays()["features"], "x": np.arange(7.0)}, {})
    whole = path.read_bytes()
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new))
    with pytest.raises(StoreError, match=r"a\.safetensors"):
        everything(path)


def test_a_truncated_file_is_refused_with_what_to_do(tmp_path):
    path, cut = tmp_path / "a.safetensors", tmp_path / "cut.safetensors"
    write_arrays(path, arrays(), FACTS)
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"cut\.safetensors.*Delete it and run the same command again"):
            everything(cut)


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("missing", "foreign", "folder"):
        with pytest.raises(StoreError, match=rf"{name}\.safetensors is not a whole array file"):
            ArrayFile(tmp_path / f"{name}.safetensors")


def test_an_unknown_array_is_refused_by_naming_those_there_are(tmp_path):
    write_arrays(tmp_path / "a", {"x": np.ones(2), "y": np.ones(2)}, {})
    file = ArrayFile(tmp_path / "a")
    assert "x" in file
    assert "z" not in file
    for read in (file.read, file.shape, lambda name: next(file.blocks(name))):
        with pytest.raises(StoreError, match="no array 'z'; it holds x, y"):
            read("z")


def test_agreement_names_both_files_the_key_and_both_values(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_arrays(tmp_path / name, {"x": np.ones(1)}, {"seed": seed, "shard": name})
    files = [ArrayFile(tmp_path / name) for name in "abc"]
    require_agreement(files[:2], ["seed"])
    with pytest.raises(StoreError, match=rf"{tmp_path}/c and {tmp_path}/a .*'seed' is 2 .* 1 in the latter"):
        require_agreement(files, ["seed"])


def test_numpy_file_appears_only_when_all_is_written(tmp_path):
    path = tmp_path / "a.npy"
    expected = np.arange(12, dtype=np.float32).reshape(4, 3)
    with numpy_file(path, (4, 3), np.float32) as write:
        write(0, 0, expected[:3, :2])
        write(3, 0, expected[3:])
        write(0, 2, expected[:3, 2:])
        assert not path.exists()
    assert same(np.load(path), expected)

    def fail():
        with numpy_file(path, (4, 3), np.float32) as write:
            write(0, 0, np.full((4, 3), 7, dtype=np.float32))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert np.load(path)[2, 1] == 7
    assert np.load(path)[2, 2] == 8
    assert os.listdir(tmp_path) == ["a.npy"]


def test_a_body_that_raises_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(error):
        with atomic_path(path) as temporary:
            temporary.write_text("half of the ne")
            raise error

    for error in (ValueError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.txt"]


def test_files_get_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_json_round_trip_and_damage(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": None})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5], "a": None}
    (tmp_path / "a.json").write_text('{"b": [1')
    for name in ("a", "missing"):
        with pytest.raises(StoreError, match=rf"{name}\.json cannot be read as JSON"):
            read_json(tmp_path / f"{name}.json")


def test_fingerprints_ignore_the_order_of_keys_and_nothing_else():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"b": 1}, {"a": [1]}, {}, {"a": True}]
    assert len({fingerprint(value) for value in different}) == len(different)


def test_file_hash_is_the_sha256_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 99_999)
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc" * 99_999).hexdigest()


def test_a_parent_that_is_a_file_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (
        lambda path: write_arrays(path, {"x": np.ones(1)}, {}),
        lambda path: write_numpy(path, np.ones(1)),
        lambda path: write_json(path, {}),
    ):
        with pytest.raises(StoreError, match=r"file/a cannot be written.*what was there before is unchanged"):
            write(tmp_path / "file" / "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into any folder")
def test_a_read_only_folder_is_a_store_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        write_json(tmp_path / "a.json", {})


# Overwrites `old` in each of the four ways with 4 MiB, and prints the error of each and what the folder then holds.
OVERWRITE = """
    import json, os, sys
    import numpy as np
    from trakflow.errors import StoreError
    from trakflow.store.array_file import write_arrays
    from trakflow.store.files import write_json
    from trakflow.store.numpy_files import numpy_file, write_numpy

    def by_parts(path):
        with numpy_file(path, (1 << 20,), np.float32) as write:
            write(0, 0, np.ones(1 << 20, dtype=np.float32))

    folder, found = sys.argv[1], []
    path = os.path.join(folder, "old.npy")
    with open(path, "w") as file:
        file.write("old")
    LIMIT
    for write in (
        lambda: write_arrays(path, {"x": np.ones(1 << 20, dtype=np.float32)}, {}),
        lambda: write_numpy(path, np.ones(1 << 20, dtype=np.float32)),
        lambda: write_json(path, [0] * (1 << 20)),
        lambda: by_parts(path),
    ):
        try:
            write()
        except StoreError as error:
            found.append([str(error), os.listdir(folder), open(path).read()])
    print(json.dumps(found))
"""


def overwrite(folder, limit="", before=""):
    code = textwrap.dedent(OVERWRITE).replace("LIMIT", limit)
    command = [sys.executable, "-c", code, str(folder)]
    if before:
        command = ["unshare", "--mount", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_all_refused_and_unchanged(finished, reason):
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert len(found) == 4
    for message, names, text in found:
        assert "old.npy cannot be written" in message
        assert reason in message
        assert names == ["old.npy"]
        assert text == "old"


def test_a_write_past_the_file_size_limit_leaves_the_old_file(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    assert_all_refused_and_unchanged(overwrite(tmp_path, limit), "File too large")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    mount = f"mount -t tmpfs -o size=1m tmpfs '{tmp_path}'"
    try:
        permitted = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if permitted.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    assert_all_refused_and_unchanged(overwrite(tmp_path, before=mount), "No space left on device")
