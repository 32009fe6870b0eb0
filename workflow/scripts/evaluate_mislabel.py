"""Evaluate how well self-influence finds labels that were exchanged."""

from trakflow.stages.mislabel import evaluate_mislabel
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(evaluate_mislabel)
