"""Draw how precisely self-influence finds labels that were exchanged."""

from trakflow.stages.figures import draw_mislabel
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_mislabel)
