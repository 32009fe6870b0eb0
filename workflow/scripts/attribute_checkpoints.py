"""Attribute by the first checkpoints and one method beside TRAK that averages over checkpoints by itself."""

from trakflow.stages.methods import attribute_checkpoints
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(attribute_checkpoints, repeatable=True)
