"""Score the training examples by the first checkpoints (job.count)."""

from trakflow.stages.attribute import score
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(score)
