"""Train one checkpoint (job.checkpoint)."""

from trakflow.stages.checkpoints import train_checkpoint
from trakflow.stages.preconditions import check_experiment
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(train_checkpoint, repeatable=True, before=check_experiment)
