"""Models on another device than their data, where there is no GPU: on a device that is made up."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "on_another_device.py"


def test_tasks_and_stages_give_the_cpus_numbers_on_a_device_that_refuses_the_cpus_tensors():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("\n") == 39
