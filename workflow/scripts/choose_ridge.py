"""Choose the ridge for all checkpoints."""

from trakflow.stages.attribute import choose_ridge
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(choose_ridge, repeatable=True)
