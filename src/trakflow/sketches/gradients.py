"""A sketch through explicit per-example gradients: ``vmap(grad(f))``, projected a parameter tensor at a time."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from trakflow.sketches.base import Projection, Sketch, SketchedBatch
from trakflow.tasks.base import Batch, Task


def differentiated_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that features are gradients by: those with `requires_grad`, by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


class GradientSketch(Sketch):
    """Per-example gradients of the task's output, projected by any `Projection`.

    Args:
        model: The model with its weights; it is put in evaluation mode, so that no example influences another.
        task: Defines the output.
        projection: The random map.
    """

    def __init__(self, model: nn.Module, task: Task, projection: Projection):
        # torch.func imports this at its first gradient, for a second; done here, it does not count as featurizing.
        import torch._dynamo  # noqa: F401

        self.k = projection.k
        self._model = model.eval()
        self._task = task
        self._projection = projection
        self._parameters = differentiated_parameters(model)
        frozen = {name: value.detach() for name, value in model.named_parameters() if not value.requires_grad}
        self._constants = {**frozen, **dict(model.named_buffers())}
        self._gradients = vmap(grad(self._output_of_one, has_aux=True), in_dims=(None, 0), randomness="error")

    def _output_of_one(self, parameters: dict[str, Tensor], example: dict[str, Tensor]) -> tuple[Tensor, Any]:
        batch = {name: value.unsqueeze(0) for name, value in example.items()}
        raw = self._task.forward(partial(_call, self._model, {**parameters, **self._constants}), batch)
        return self._task.output(raw, batch).squeeze(0), raw.squeeze(0)

    def __call__(self, batch: Batch) -> SketchedBatch:
        """Sketch a batch; holds the gradients of the whole batch while it runs."""
        gradients, raw = self._gradients(self._parameters, dict(batch))
        size = raw.shape[0]
        features = torch.zeros(size, self.k, dtype=torch.float32, device=raw.device)
        with torch.no_grad():
            for name in self._parameters:
                self._projection.add(features, name, gradients.pop(name).reshape(size, -1).float())
            return SketchedBatch(
                features,
                self._task.output(raw, batch).float(),
                self._task.loss_gradient(raw, batch).float(),
                None if (curvature := self._task.curvature(raw, batch)) is None else curvature.float(),
            )


def _call(model: nn.Module, tensors: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
    return functional_call(model, tensors, args, kwargs)
