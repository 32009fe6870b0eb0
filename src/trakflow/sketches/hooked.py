"""What `tensor_sketch` and `factorized` share: features from one forward and backward pass, and its check."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trakflow.errors import SketchError
from trakflow.sketches.base import Sketch, SketchedBatch
from trakflow.sketches.capture import Capture, Receiver
from trakflow.sketches.explicit import ExplicitGradients
from trakflow.sketches.memory import activation_bytes
from trakflow.tasks.base import Batch, Task
from trakflow.tasks.running import floating_type, run_model

# Of a parameter's own gradient; rules that are wrong are wrong by more.
CHECK_TOLERANCE = 1e-2
HALF_TOLERANCE = 1e-1
# A gradient that is a smaller part of the whole counts as this part: some are zero but for rounding.
SMALL = 1e-3


class Accumulator(Receiver):
    """A receiver that ends in features."""

    @abstractmethod
    def features(self) -> Float[Tensor, "batch k"]:
        """Return the features of the batch, once all contributions have been added."""


class HookedSketch(Sketch):
    """Features of a batch from the inputs and output gradients of its layers.

    The first batch is used to check, on two examples, that the rules give this model's real gradients.

    Args:
        model: The model with its weights; it is put in evaluation mode.
        task: Defines the output.
        parameters: Those that features are gradients by.

    Raises:
        SketchError: A module is not covered.
    """

    def __init__(self, model: nn.Module, task: Task, parameters: Mapping[str, Tensor]):
        self._model = model.eval()
        self._task = task
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self._capture = Capture(model, task, parameters)
        self._device = next(iter(parameters.values())).device
        double = any(parameter.dtype == torch.float64 for parameter in parameters.values())
        self._dtype = torch.float64 if double else torch.float32
        self._checked = 0
        self._learned: dict[str, torch.Size] = {}

    @abstractmethod
    def accumulator(self, batch: int) -> Accumulator:
        """Return a receiver for one batch."""

    def __call__(self, batch: Batch) -> SketchedBatch:
        """Sketch a batch.

        Raises:
            SketchError: The gradients that the rules find are not the model's.
        """
        size = len(next(iter(batch.values())))
        self._check(batch, size)
        self._learn_again(batch, size)
        accumulator = self.accumulator(size)
        raw = self._capture.run(batch, size, accumulator)
        with torch.no_grad():
            return SketchedBatch(
                accumulator.features(),
                self._task.output(raw, batch).float(),
                self._task.loss_gradient(raw, batch).float(),
                None if (curvature := self._task.curvature(raw, batch)) is None else curvature.float(),
            )

    def try_on(self, batch: Batch) -> None:
        """Compare with plain gradients, as the first batch does.

        Raises:
            SketchError: The gradients that the rules find are not the model's.
        """
        self._check(batch, len(next(iter(batch.values()))))

    def bytes_per_example(self, example: Batch) -> int:
        """Activations, their gradients and what is kept of them; features and sums on the way to them."""
        return 3 * activation_bytes(self._model, self._task, example) + 8 * 4 * self.k

    def _check(self, batch: Batch, size: int) -> None:
        """Compare with plain gradients once, and again at the first batch of more than one example."""
        count = min(size, 2)
        if count <= self._checked:
            return
        if count == 2:
            self._capture.learn_axes(batch)
            self._learned = _shapes_of_one(batch)
        few = {name: value[:count] for name, value in batch.items()}
        explicit = ExplicitGradients(self._shapes, count, self._dtype, self._device)
        self._capture.run(few, count, explicit)
        for row in range(count):
            expected = self._plain_gradients({name: value[row : row + 1] for name, value in few.items()})
            _require_equal(expected, {name: value[row] for name, value in explicit.gradients.items()})
        self._checked = count

    def _learn_again(self, batch: Batch, size: int) -> None:
        """Where modules see several rows an example, sequences of another length have another number of them."""
        if size > 1 and self._capture.depends_on_shape and _shapes_of_one(batch) != self._learned:
            self._capture.learn_axes(batch)
            self._learned = _shapes_of_one(batch)

    def _plain_gradients(self, example: Batch) -> dict[str, Tensor]:
        parameters = {name: value for name, value in self._model.named_parameters() if name in self._shapes}
        with torch.enable_grad():
            raw = run_model(self._task, self._model, example, floating_type(self._model))
            output = self._task.output(raw, example).sum()
            found = torch.autograd.grad(output, list(parameters.values()), allow_unused=True)
        return {
            name: torch.zeros_like(parameters[name]) if gradient is None else gradient
            for name, gradient in zip(parameters, found, strict=True)
        }


def _shapes_of_one(batch: Batch) -> dict[str, torch.Size]:
    return {name: value.shape[1:] for name, value in batch.items()}


def _require_equal(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    norms = {name: float(gradient.double().norm()) for name, gradient in expected.items()}
    scale = math.hypot(*norms.values())
    # Examples with NaN or Inf are refused with a sentence of their own.
    if not math.isfinite(scale):
        return
    wrong = []
    for name, gradient in expected.items():
        tolerance = HALF_TOLERANCE if gradient.itemsize < 4 else CHECK_TOLERANCE
        error = float((found[name].double() - gradient.double().view_as(found[name])).norm())
        if error > tolerance * max(norms[name], SMALL * scale):
            wrong.append(name)
    if wrong:
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise SketchError(
            f"The gradients by {shown} that this sketch finds from layers' inputs and outputs are not the model's. "
            "Usual causes: a parameter is used outside its module's forward, a module's output is computed in another "
            "way than its type's, or examples of a batch influence each other. Use sketch=sjlt, which takes explicit "
            "gradients one example at a time, or leave the parameters out by sketch.parameters."
        )
