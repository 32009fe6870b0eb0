"""Write the training examples as checked arrays."""

from trakflow.stages.prepare import prepare_train
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(prepare_train)
