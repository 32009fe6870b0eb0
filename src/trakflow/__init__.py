"""TRAK data attribution: sketched per-example gradients, a ridge-regularised kernel, and the score that judges it.

The names below are imported when they are first used: the workflow composes and checks a configuration without paying
for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trakflow.traker.install import test_install
    from trakflow.traker.model_output import AbstractModelOutput
    from trakflow.traker.traker import TRAKer

__version__ = "0.1.0"
__all__ = ["AbstractModelOutput", "TRAKer", "__version__", "test_install"]

_PLACES = {
    "AbstractModelOutput": "trakflow.traker.model_output",
    "TRAKer": "trakflow.traker.traker",
    "test_install": "trakflow.traker.install",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'trakflow' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)
