"""Time forward and backward passes over the training set."""

from trakflow.stages.forward_backward import forward_backward
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(forward_backward)
