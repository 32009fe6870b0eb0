"""docs/scale.md says what its script computes, and the script computes what a run and Snakemake's plan have."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from run_snakemake import REPOSITORY, TINY, overrides

sys.path.append(str(REPOSITORY / "benchmarks"))
import scale

LIMIT = 4 * 2**30
FOLDERS = {
    "features": ["features", "Gram matrices of shards"],
    "kernels": ["kernels"],
    "target_features": ["features of targets"],
    "checkpoints": ["checkpoints"],
    "evaluation": ["retrained models", "subsets and outputs"],
    "scores": ["scores"],
}


def payload(path: Path) -> int:
    """Bytes of a file's arrays, by the two formats' own description of themselves."""
    raw = path.read_bytes()
    if path.suffix == ".npy":
        return len(raw) - 10 - int.from_bytes(raw[8:10], "little")
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values() if "shape" in entry)


def arrays(folder: Path) -> list[Path]:
    found = [path for suffix in ("npy", "safetensors") for path in folder.rglob(f"*.{suffix}")]
    return [path for path in found if not path.name.endswith(".mask.npy")]


@pytest.fixture(scope="module")
def tiny() -> scale.Scale:
    return scale.Scale("tiny", "digits", overrides(TINY))


def test_the_page_has_the_tables_of_the_script():
    text = scale.PAGE.read_text(encoding="utf8")
    assert text.partition(scale.BEGIN)[2].partition(scale.END)[0].strip() == scale.table().strip()


def test_as_many_jobs_as_a_run_had(finished, tiny):
    folder = finished / "results" / "digits" / "benchmarks"
    run = Counter(path.relative_to(folder).parts[0].removesuffix(".tsv") for path in folder.rglob("*.tsv"))
    assert dict(run) == scale.jobs(tiny.config)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_bytes_that_a_run_wrote(folder, finished, tiny):
    written = sum(payload(path) for path in arrays(finished / "results" / "digits" / folder))
    sizes = scale.file_bytes(tiny.config, tiny.model)
    assert written == sum(sizes[name] for name in FOLDERS[folder])


def test_a_number_has_two_digits():
    assert [scale.short(number) for number in (0, 0.123, 9.94, 12.7, 999.4, 123456)] == [
        "\N{EN DASH}",
        ".12",
        "9.9",
        "13",
        "1,000",
        "120,000",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", scale.PLANNED)
def test_the_dag_of_the_papers_sizes_is_built_in_bounded_memory(name, tmp_path):
    planned = scale.plan(scale.PLANNED[name], tmp_path)
    assert planned.jobs == scale.jobs(scale.PLANNED[name].config)
    assert planned.peak_bytes < LIMIT
