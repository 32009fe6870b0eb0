"""Draw one batch of evaluation subsets (job.batch)."""

from trakflow.stages.evaluate import subsets
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(subsets)
