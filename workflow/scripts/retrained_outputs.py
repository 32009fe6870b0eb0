"""Compute the outputs of one batch of retrained models (job.retrain, job.batch)."""

from trakflow.stages.retrain import retrained_outputs
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(retrained_outputs)
