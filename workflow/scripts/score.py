"""Score the training examples by all checkpoints."""

from trakflow.stages.attribute import score
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(score, repeatable=True)
