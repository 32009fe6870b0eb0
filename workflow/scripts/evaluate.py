"""Evaluate the linear datamodeling score."""

from trakflow.stages.evaluate import evaluate
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(evaluate)
