"""Fetching once, checked, whatever fails."""

import hashlib
import threading
import time

import pytest

from trakflow.errors import DataError
from trakflow.sources.keeping import first_that_works, kept

CONTENT = b"published"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Fetch:
    """Writes a file, slowly, and counts how often it was asked to."""

    def __init__(self, content=CONTENT):
        self.content, self.calls = content, 0

    def __call__(self, folder):
        self.calls += 1
        time.sleep(0.1)
        path = folder / "fetched"
        path.write_bytes(self.content)
        return path


def test_of_several_that_start_together_one_fetches(tmp_path):
    fetch, found = Fetch(), []
    path = tmp_path / "cache" / "file"
    threads = [threading.Thread(target=lambda: found.append(kept(path, CHECKSUM, fetch))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [path] * 3
    assert fetch.calls == 1
    assert path.read_bytes() == CONTENT


def test_other_contents_are_neither_kept_nor_read(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(DataError, match="not what was published"):
        kept(path, CHECKSUM, Fetch(b"else"))
    assert not path.exists()
    path.write_bytes(b"damaged")
    fetch = Fetch()
    with pytest.raises(DataError, match=rf"{path}.*delete it to have it fetched again"):
        kept(path, CHECKSUM, fetch)
    assert fetch.calls == 0


def failing(error):
    def source():
        raise error

    return source


def test_the_first_source_that_has_it_is_taken_and_all_failures_are_told():
    no_network, damaged = failing(OSError("no network")), failing(DataError("sha256 differs"))
    sources = {"archive": no_network, "mirror": lambda: 1, "npm": lambda: 2}
    assert first_that_works("It", sources, "") == 1
    with pytest.raises(
        DataError, match=r"^It could not be had \(archive: no network; npm: sha256 differs\)\. Bring it\.$"
    ):
        first_that_works("It", {"archive": no_network, "npm": damaged}, "Bring it.")


def test_a_mistake_in_the_code_of_a_source_is_not_a_missing_source():
    with pytest.raises(TypeError):
        first_that_works("It", {"archive": failing(TypeError()), "npm": lambda: 2}, "")
