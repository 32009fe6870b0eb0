"""Featurize the targets by one checkpoint (job.checkpoint)."""

from trakflow.stages.featurize import featurize_targets
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(featurize_targets, repeatable=True)
