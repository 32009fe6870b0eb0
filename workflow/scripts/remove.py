"""Choose the examples that are left out (job.method, job.count, job.batch)."""

from trakflow.stages.removal import remove
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(remove)
