"""Factor the Gram matrix of one checkpoint (job.checkpoint)."""

from trakflow.stages.attribute import finalize
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(finalize, repeatable=True)
