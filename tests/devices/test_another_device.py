"""Models on another device than their data: on one that is made up, and on a GPU where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "on_another_device.py"


def compare_on(*device):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, SCRIPT, *device], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout.count("\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which the next test takes")
def test_tasks_and_stages_give_the_cpus_numbers_on_a_device_that_refuses_the_cpus_tensors():
    assert compare_on() == 39


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tasks_and_stages_give_the_cpus_numbers_on_a_gpu():
    assert compare_on("cuda") == 41
