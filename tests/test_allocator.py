"""The memory of large tensors: pages of 2 MiB are asked for, unless the environment says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# 64 MiB in a process that has made no tensor before; prints the KiB of mappings for which huge pages were asked (hg).
PROGRAM = """
from trakflow.allocator import keep_freed_memory
keep_freed_memory()
import torch
held = torch.ones(1 << 24)
asked = size = 0
for line in open("/proc/self/smaps"):
    name, *values = line.split()
    size = int(values[0]) if name == "Size:" else size
    asked += size if name == "VmFlags:" and "hg" in values else 0
print(asked)
"""


def asked_kibibytes(**environment: str) -> int:
    kept = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not SETTING.is_file(), reason="this system has no huge pages to ask for")
def test_large_tensors_ask_for_huge_pages_unless_the_environment_says_no():
    assert asked_kibibytes() >= 64 << 10
    assert asked_kibibytes(THP_MEM_ALLOC_ENABLE="0") == 0
