"""Check one of the user's own checkpoints (job.checkpoint)."""

from trakflow.stages.checkpoints import import_checkpoint
from trakflow.stages.preconditions import check_imported
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(import_checkpoint, before=check_imported)
