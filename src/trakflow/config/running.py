"""Settings of where and how a job runs, and of the one job that it is."""

import re
from typing import Literal

from pydantic import NonNegativeInt, field_validator

from trakflow.config.section import PositiveInt, Section
from trakflow.layout import OwnFrom

# Those that have been run on, and others of torch's, which jobs try.
DEVICES = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


class Runtime(Section):
    """Where and how fast: nothing here changes results beyond rounding, so nothing here makes a rule run again."""

    device: str = "cpu"
    batch_size: Literal["auto"] | PositiveInt = "auto"
    threads: PositiveInt = 1
    memory_mb: PositiveInt = 2000
    minutes: PositiveInt = 60
    repeats: PositiveInt = 1

    @field_validator("device")
    @classmethod
    def _is_named_as_by_torch(cls, device: str) -> str:
        if not DEVICES.fullmatch(device):
            raise ValueError(f"torch has no device {device}; give cpu, cuda or cuda:<number>")
        return device

    @property
    def forward_batch_size(self) -> int:
        """Examples at a time where no gradient is taken."""
        return 256 if self.batch_size == "auto" else self.batch_size


class Job(Section):
    """Which piece of work one script call does; filled in by the rules."""

    results: str | None = None
    log: str | None = None
    checkpoint: NonNegativeInt | None = None
    count: PositiveInt | None = None
    shard: NonNegativeInt | None = None
    retrain: NonNegativeInt | None = None
    batch: NonNegativeInt | None = None
    method: str | None = None
    figure: str | None = None
    purpose: Literal["evaluation", "fitting"] = "evaluation"
    variant_of: str | None = None
    own_from: OwnFrom = "features"
    timed: bool = False
