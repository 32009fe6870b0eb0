"""Draw what becomes of predictions without the removed examples."""

from trakflow.stages.figures import draw_removal
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_removal)
