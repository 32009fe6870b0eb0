"""Results in remote storage: the workflow on a real S3 protocol, by moto's server on this machine."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from run_snakemake import REPOSITORY, TINY, overrides, snakemake

pytestmark = pytest.mark.storage

BUCKET = "attributions"
PREFIX = "some/run"
ROOT = "results/digits"


class Bucket:
    """What the server holds."""

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")

    def flags(self, folder: str = "") -> list[str]:
        """What tells Snakemake to keep its results here, or in a folder that no other run of these tests uses."""
        place = f"s3://{BUCKET}/{PREFIX}/{folder}".rstrip("/")
        storage = ["--default-storage-provider", "s3", "--default-storage-prefix", place]
        return [*storage, "--storage-s3-endpoint-url", self.endpoint]

    def read(self, path: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{path}")["Body"].read()

    def files(self) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = {found["Key"] for page in pages for found in page.get("Contents", [])}
        assert all(key.startswith(f"{PREFIX}/") for key in keys)
        return {key.removeprefix(f"{PREFIX}/") for key in keys}


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        # Those that Snakemake's storage takes, and those that boto3 does.
        for name in ("SNAKEMAKE_STORAGE_S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
            patch.setenv(name, "anyone")
        for name in ("SNAKEMAKE_STORAGE_S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "anything")
        try:
            wait_for(port, server)
            yield Bucket(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait(30)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert server.poll() is None, "moto's server ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("moto's server does not answer")


@pytest.fixture(scope="module")
def stored(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working folder of a run whose results went to the bucket."""
    folder = tmp_path_factory.mktemp("stored")
    snakemake(folder, overrides(TINY), ["--cores", "2", *bucket.flags()])
    return folder


def test_the_bucket_holds_the_bytes_of_a_local_run(stored: Path, bucket: Bucket, finished: Path) -> None:
    root = finished / ROOT
    # Features and the table carry the seconds that making them took, and benchmarks nothing else.
    same = [
        path
        for pattern in ("scores/**/*.npy", "scores/*.parquet", "checkpoints/*", "evaluation/models/**/*.safetensors")
        for path in root.glob(pattern)
        if path.is_file()
    ]
    assert len(same) > 8
    for path in same:
        assert bucket.read(str(path.relative_to(finished))) == path.read_bytes(), path
    assert bucket.read(f"{ROOT}/config.yaml") == (root / "config.yaml").read_bytes()


def test_all_results_are_in_the_bucket_and_none_in_the_working_folder(
    stored: Path, bucket: Bucket, finished: Path
) -> None:
    made = {str(path.relative_to(finished)) for path in (finished / ROOT).rglob("*") if path.is_file()}
    assert made - {f"{ROOT}/report.html"} <= bucket.files()
    assert not (stored / "results").exists()
    left = [path for path in (stored / ".snakemake/storage").rglob("*") if path.is_file()]
    # Snakemake keeps these on both sides.
    assert {path.suffix for path in left} <= {".log", ".tsv"}


def test_nothing_is_made_twice(stored: Path, bucket: Bucket) -> None:
    done = snakemake(stored, overrides(TINY), ["--cores", "2", *bucket.flags(), "--dry-run"])
    assert "Nothing to be done" in done.stdout + done.stderr


def test_the_profile_of_kubernetes_asks_for_what_its_plugin_wants(bucket: Bucket, tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_kubernetes")
    # The command line is stronger than the profile.
    flags = [*bucket.flags("planned"), "--profile", str(REPOSITORY / "workflow/profiles/kubernetes"), "--dry-run"]
    done = snakemake(tmp_path, overrides(TINY), flags)
    assert "gpu_manufacturer=nvidia, scale=0" in done.stdout + done.stderr


def test_checkpoints_of_the_users_own_are_read_where_they_lie(bucket: Bucket, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes((finished / ROOT / "checkpoints/1.safetensors").read_bytes())
    own = {"checkpoints.count": "null", "evaluation.checkpoint_counts": "[]", "checkpoints.files": "[mine.safetensors]"}
    target = f"{ROOT}/checkpoints/0.safetensors"
    flags = ["--cores", "2", *bucket.flags("imported")]
    snakemake(tmp_path, overrides(TINY, own), [target, *flags])
    assert bucket.read(f"imported/{target}") == (finished / ROOT / "checkpoints/1.safetensors").read_bytes()


def test_files_that_jobs_could_not_read_are_refused_before_any_job(bucket: Bucket, tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_kubernetes")
    (tmp_path / "mine.safetensors").touch()
    own = {"checkpoints.count": "null", "evaluation.checkpoint_counts": "[]", "checkpoints.files": "[mine.safetensors]"}
    flags = [*bucket.flags("planned"), "--profile", str(REPOSITORY / "workflow/profiles/kubernetes"), "--dry-run"]
    done = snakemake(tmp_path, overrides(TINY, own), flags, check=False)
    assert done.returncode == 1
    assert "mine.safetensors is read where it lies" in done.stdout + done.stderr
