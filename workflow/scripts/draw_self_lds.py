"""Draw the self-LDS curve."""

from trakflow.stages.figures import draw_self_lds
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_self_lds)
