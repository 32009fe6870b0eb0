"""The scoring benchmark runs, at a size that says nothing of speed."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scoring.py"


def test_a_small_run_writes_its_table_and_scores_exactly(tmp_path):
    sizes = ["--rows=600", "--features=16", "--targets=5", "--shards=2", "--repeats=1", "--threads=1"]
    output = tmp_path / "scoring.csv"
    subprocess.run([sys.executable, SCRIPT, *sizes, f"--output={output}"], check=True, cwd=tmp_path)
    table = pd.read_csv(output)
    assert len(table) == 2  # with dense scores and without
    assert (table["largest_error"] < 1e-5).all()
