"""Evaluate the method without its parts."""

from trakflow.stages.ablation import ablate
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(ablate)
