"""Retrain one batch of models (job.retrain, job.batch)."""

from trakflow.stages.retrain import retrain
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(retrain)
