"""Featurize one shard by one checkpoint (job.checkpoint, job.shard)."""

from trakflow.stages.featurize import featurize
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(featurize, repeatable=True)
