"""Draw LDS against the number of checkpoints."""

from trakflow.stages.figures import draw_lds_vs_checkpoints
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_lds_vs_checkpoints)
