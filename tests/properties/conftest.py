"""How many examples hypothesis tries: few and always the same ones, or thousands by HYPOTHESIS_PROFILE=nightly."""

import os

from hypothesis import HealthCheck, settings

# What a test reads and writes is as slow as the disk, and says nothing of what it asks.
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("default", max_examples=25, derandomize=True, **COMMON)
settings.register_profile("nightly", max_examples=3000, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
