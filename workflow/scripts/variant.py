"""Train and featurize a variant, where these are not the experiment's own, then score and evaluate it."""

from trakflow.stages.runner import run
from trakflow.stages.variants import variant

if __name__ == "__main__":
    run(variant)
