"""The memory of large tensors: pages of 2 MiB, unless the environment says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# 64 MiB, touched, in a process that has made no tensor before; prints how much of its memory lies in huge pages.
PROGRAM = """
from trakflow.allocator import keep_freed_memory
keep_freed_memory()
import torch
held = torch.ones(1 << 24)
lines = open("/proc/self/smaps").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")))
"""


def huge_kibibytes(**environment: str) -> int:
    kept = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=kept | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not SETTING.is_file() or "[madvise]" not in SETTING.read_text(), reason="pages are not to be asked for"
)
def test_large_tensors_lie_in_huge_pages_unless_the_environment_says_no():
    assert huge_kibibytes() > 32 << 10
    assert huge_kibibytes(THP_MEM_ALLOC_ENABLE="0") == 0
