"""Train models on everything, for the removal of examples (job.retrain)."""

from trakflow.stages.retrain_removed import retrain_on_all
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(retrain_on_all)
