"""The benchmark beside traker, small."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]


def test_both_libraries_agree_on_a_small_problem(tmp_path: Path) -> None:
    sizes = ["--checkpoints=1", "--subsets=4", "--retrains=2", "--targets=4", "--repeats=1", "--k=128", "--threads=1"]
    command = [sys.executable, "benchmarks/parity.py", "--problems=digits", *sizes, f"--out={tmp_path / 'parity.csv'}"]
    subprocess.run([*command, "--widths", "4"], cwd=REPOSITORY, check=True, capture_output=True)
    table = pd.read_csv(tmp_path / "parity.csv")
    assert table["library"].tolist() == ["traker", "trakflow"] * 3 + ["trakflow"]
    same, default = table["pearson_with_traker"][:6], table["pearson_with_traker"][6]
    assert (same > 0.999).all()
    # Another matrix, ridge and weights: alike, and not the same as it would be if compared with itself.
    assert 0.3 < default < 0.999
    assert (table["seconds"] > 0).all()
    assert table["lds"].between(-1, 1).all()
