"""Evaluate what becomes of predictions without the removed examples."""

from trakflow.stages.removal import evaluate_removal
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(evaluate_removal)
