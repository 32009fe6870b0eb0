"""Draw predicted against actual outputs."""

from trakflow.stages.figures import draw_predicted_vs_actual
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(draw_predicted_vs_actual)
