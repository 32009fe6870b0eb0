"""TRAK data attribution: sketched per-example gradients, a ridge-regularised kernel, and the score that judges it.

Nothing is imported here: the workflow composes and checks a configuration without paying for torch.
"""

__version__ = "0.1.0"
