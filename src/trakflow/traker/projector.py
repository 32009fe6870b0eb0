"""Projectors written for the paper's own library: `project(gradients, model_id)`, run as one of our projections."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trakflow.errors import ConfigError
from trakflow.sketches.base import Projection


def is_projector(value: object) -> bool:
    """Whether an object is such a projector, whatever it is derived from."""
    return callable(getattr(value, "project", None)) and hasattr(value, "proj_dim")


def is_no_projection(projector: Any) -> bool:
    """Whether it is one that returns gradients as they are, which says so by zero features."""
    return projector.proj_dim == 0


class ProjectorProjection(Projection):
    """Projects by such a projector, which takes the gradients by all parameters at once.

    Args:
        projector: Has `project` and `proj_dim`.
        sizes: Number of entries of each parameter, in order.
        model_id: Which checkpoint, as the projector counts them.
    """

    def __init__(self, projector: Any, sizes: Mapping[str, int], model_id: int):
        self.k = int(projector.proj_dim)
        self._projector = projector
        self._model_id = model_id
        self._names = list(sizes)
        self._held: list[Tensor] = []

    def add(self, features: Float[Tensor, "batch k"], name: str, gradients: Float[Tensor, "batch size"]) -> None:
        """Hold the gradients by one parameter; with the last one, project them all.

        Raises:
            ConfigError: The projector returns another number of features than it says.
        """
        self._held.append(gradients)
        if name != self._names[-1]:
            return
        together, self._held = torch.cat(self._held, dim=1), []
        found = self._projector.project(together, model_id=self._model_id)
        if found.shape != features.shape:
            raise ConfigError(
                f"{type(self._projector).__name__}.project returned shape {tuple(found.shape)}, but its proj_dim says "
                f"{tuple(features.shape)}."
            )
        features += found.to(features.device, features.dtype)


def projector_facts(projector: Any) -> dict[str, Any]:
    """Return what tells a projector from others, JSON-able: its class and its plain attributes."""
    plain = {
        name: value
        for name, value in vars(projector).items()
        # traker's own remember the model they projected last.
        if isinstance(value, (int, float, str, bool)) and not name.startswith("_") and name not in _CHANGING
    }
    return {"name": f"{type(projector).__module__}.{type(projector).__qualname__}", **plain}


_CHANGING = {"model_id", "proj_matrix_available"}
