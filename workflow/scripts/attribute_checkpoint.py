"""Attribute by one checkpoint and one method beside TRAK."""

from trakflow.stages.methods import attribute_checkpoint
from trakflow.stages.runner import run

if __name__ == "__main__":
    run(attribute_checkpoint, repeatable=True)
