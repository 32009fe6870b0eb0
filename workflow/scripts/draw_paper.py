"""Draw a figure of the paper's set (job.figure)."""

from trakflow.stages.paper import draw_paper
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_paper)
