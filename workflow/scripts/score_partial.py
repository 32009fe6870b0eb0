"""Choose the ridge and score for each number of checkpoints that is evaluated beside all of them."""

from trakflow.stages.attribute import score_partial
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(score_partial, repeatable=True)
