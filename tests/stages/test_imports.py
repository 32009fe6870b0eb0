"""What the scripts of short jobs import: torch and its like would take longer than the jobs' work."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "scipy", "sklearn", "pandas", "matplotlib", "pyarrow"}
DRAWING = {"pandas", "matplotlib", "pyarrow"}


@pytest.mark.parametrize(
    ("stage", "allowed"),
    [("describe", set()), ("prepare", set()), ("evaluate", set()), ("figures", DRAWING), ("runner", set())],
)
def test_a_stage_that_runs_no_model_imports_nothing_slow(stage, allowed):
    code = f"import sys, trakflow.stages.{stage}; print(*{HEAVY!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= allowed
