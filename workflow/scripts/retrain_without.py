"""Retrain models without the removed examples (job.method, job.count, job.retrain, job.batch)."""

from trakflow.stages.retrain_removed import retrain_without
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(retrain_without)
