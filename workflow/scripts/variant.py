"""Train (where it has its own checkpoints), featurize, score and evaluate a variant."""

from trakflow.stages.runner import run
from trakflow.stages.variants import variant

if __name__ == "__main__":
    run(variant, repeatable=False)
