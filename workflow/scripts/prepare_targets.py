"""Write the targets as checked arrays."""

from trakflow.stages.prepare import prepare_targets
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(prepare_targets)
