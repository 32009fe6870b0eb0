"""Draw the groups of training examples that matter most."""

from trakflow.stages.figures import draw_top_groups
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_top_groups)
