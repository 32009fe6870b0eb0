"""Keep which examples one of the user's own checkpoints was trained on (job.checkpoint)."""

from trakflow.stages.checkpoints import import_mask
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(import_mask)
