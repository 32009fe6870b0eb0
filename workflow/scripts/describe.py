"""Write the resolved configuration."""

from trakflow.stages.describe import describe
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(describe)
