import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import LoopbackCluster, running_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[LoopbackCluster]:
    # Not below pytest's own folders: munge's socket must have a short path that everyone can reach.
    with tempfile.TemporaryDirectory(prefix="trakflow-slurm-") as folder, running_cluster(Path(folder)) as running:
        yield running
