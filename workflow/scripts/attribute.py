"""Write the scores of one method beside TRAK."""

from trakflow.stages.methods import attribute
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(attribute, repeatable=True)
