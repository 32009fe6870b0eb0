"""Draw the gallery of targets."""

from trakflow.stages.figures import draw_gallery
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_gallery)
