"""Take one shard of one checkpoint's features from another folder (job.checkpoint, job.shard, features_from)."""

from trakflow.stages.import_features import import_features
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(import_features)
