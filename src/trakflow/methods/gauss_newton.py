"""Products of vectors with the Gauss-Newton matrix of a checkpoint's training loss.

With J_i the derivative of what the model returns for example i by the p parameters, and H_i the second derivative of
the example's loss by it,

    G = sum over the checkpoint's own training examples i of  J_i^T H_i J_i     (p x p, positive semidefinite).

It is a sum, not a mean, so that (G + damping I)^-1 times a gradient of the loss is a change of the parameters by one
example (Koh & Liang 2017, section 2.1, where 1/n stands before both). Where a loss has no second derivative by example
(that of CLIP compares the examples of a batch), `curvature="output"` takes the task's own f and W = d2loss/df2 instead,
G = sum W_i grad f_i grad f_i^T, which is Phi^T W Phi of TRAK without a projection; with two classes both are the same.

Vectors are the rows of a matrix, their entries in the order of the features of the sketch `identity`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trakflow.errors import ConfigError, NumericalError
from trakflow.methods.base import Trained
from trakflow.methods.gradients import one_example
from trakflow.methods.jacobian import Jacobian, held
from trakflow.methods.losses import require_loss_by_example
from trakflow.seeds import generator
from trakflow.sketches.memory import activation_bytes
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.tasks.base import Batch
from trakflow.tasks.running import floating_type, run_model
from trakflow.training.sgd import select_rows

# Random vectors of signs that the mean diagonal is estimated by.
PROBES = 64
# Values, their derivative along a vector, and both again on the way back, beside what torch keeps of an activation.
COPIES = 4
# Vectors that a batch of examples should have room for; with fewer, batches are made smaller first.
VECTORS = 16
# Forward passes that a product of one vector costs: the values, their derivative along it (two), the way back (two).
PASSES = 5


class GaussNewton:
    """G of one checkpoint, as a function of vectors.

    Args:
        trained: One checkpoint and the data; examples that its mask leaves out are no part of G.
        curvature: `loss` or `output`, as above.

    Attributes:
        size: Number of parameters, p.
        dtype: Of the model, in which products are taken.

    Raises:
        ConfigError: The task has no such curvature, the model computes in less than float32, or another `curvature`.
    """

    def __init__(self, trained: Trained, curvature: str = "loss"):
        self._trained = trained
        self._parameters = differentiated_parameters(trained.model)
        self._constants = _constants(trained.model, self._parameters)
        self.dtype = _dtype(trained.model)
        self._of_loss = curvature == "loss"
        self.size = sum(value.numel() for value in self._parameters.values())
        if curvature not in ("loss", "output"):
            raise ConfigError(f"curvature={curvature} must be loss or output.")
        self._check()
        count = len(next(iter(trained.train.values())))
        seen = np.arange(count) if trained.mask is None else np.flatnonzero(trained.mask)
        self._seen = torch.from_numpy(seen).to(trained.device)
        self._bytes = COPIES * activation_bytes(trained.model, trained.task, one_example(trained))

    def __call__(self, vectors: Float[Tensor, "rows p"]) -> Float[Tensor, "rows p"]:
        """Return G v of each row v.

        By passes forward and backward along each v; where J of all examples fits a quarter of the memory and takes
        fewer operations, as for convolutions and few classes, by J, which is taken once.

        Raises:
            ConfigError: The model does something that torch has no forward derivative of.
        """
        return self._by_passes(vectors) if self._held is None else self._held(vectors)

    def check_product(self) -> None:
        """Take one product, to see whether that can be done.

        Raises:
            ConfigError: As a call.
        """
        self(torch.zeros(1, self.size, dtype=self.dtype, device=self._trained.device))

    @cached_property
    def _held(self) -> Jacobian | None:
        batch, budget = one_example(self._trained), self._trained.memory_bytes // 4
        with FlopCounterMode(display=False) as counter:
            numbers = self._outputs(self._parameters, batch).numel()
        of_one = numbers * (numbers + self.size) * self.dtype.itemsize
        if len(self._seen) * of_one > budget or 4 * numbers * self.size > PASSES * counter.get_total_flops():
            return None
        at_once = min(self._trained.batch_size, max(1, budget // (2 * of_one + numbers * self._bytes)))
        chosen = (select_rows(self._trained.train, rows) for rows in self._seen.split(at_once))
        with _forward_derivatives():
            return held(self._outputs, self._curved, self._parameters, chosen, len(self._seen))

    def _by_passes(self, vectors: Float[Tensor, "rows p"]) -> Float[Tensor, "rows p"]:
        budget = self._trained.memory_bytes // 4
        at_once = min(self._trained.batch_size, max(1, budget // (VECTORS * self._bytes)))
        chunk = max(1, min(len(vectors), budget // (at_once * self._bytes), budget // (8 * self.size)))
        total = torch.zeros_like(vectors)
        for chosen in self._seen.split(at_once):
            with _forward_derivatives():
                total += self._of_batch(vectors, select_rows(self._trained.train, chosen), chunk)
        return total

    def mean_diagonal(self) -> float:
        """Estimate trace(G) / p by products with random signs (Hutchinson), a function of the seed and the checkpoint.

        Raises:
            NumericalError: It is not positive: the loss is flat, or NaN.
        """
        random = generator(self._trained.seed, "gauss_newton", self._trained.number)
        signs = torch.from_numpy(random.integers(0, 2, (PROBES, self.size), dtype=np.int8)).to(self._trained.device)
        # Vectors, products, and both with their product in float64.
        at_once = max(1, self._trained.memory_bytes // 4 // ((2 * self.dtype.itemsize + 3 * 8) * self.size))
        found = sum(self._along(2 * some.to(self.dtype) - 1) for some in signs.split(at_once)) / signs.numel()
        if not found > 0:
            raise NumericalError(
                f"The mean diagonal of the Gauss-Newton matrix of checkpoint {self._trained.number} is {found:.3g}: "
                "the loss of its training examples has no curvature. Look whether its training diverged."
            )
        return found

    def _along(self, vectors: Float[Tensor, "rows p"]) -> float:
        return (vectors.double() * self(vectors).double()).sum().item()

    def _of_batch(self, vectors: Float[Tensor, "rows p"], batch: Batch, chunk: int) -> Float[Tensor, "rows p"]:
        outputs = partial(self._outputs, batch=batch)
        values, pull_back, *_ = vjp(outputs, self._parameters)
        curved = self._curved(batch, values.detach())

        def product(vector: Tensor) -> Tensor:
            along = jvp(outputs, (self._parameters,), (self._split(vector),))[1]
            (pulled,) = pull_back(curved(along).to(values.dtype))
            return torch.cat([pulled[name].flatten() for name in self._parameters])

        return vmap(product, chunk_size=chunk)(vectors)

    def _curved(self, batch: Batch, values: Tensor) -> Callable[[Tensor], Tensor]:
        """What multiplies by H of each example of a batch, at what the model returns for it."""
        return self._by_loss(values, batch) if self._of_loss else self._by_output(batch)

    def _outputs(self, parameters: dict[str, Tensor], batch: Batch) -> Tensor:
        """What H is a second derivative by."""
        model = partial(_call, self._trained.model, {**parameters, **self._constants})
        raw = run_model(self._trained.task, model, batch, self.dtype)
        return raw if self._of_loss else self._trained.task.output(raw, batch)

    def _by_loss(self, raw: Tensor, batch: Batch) -> Callable[[Tensor], Tensor]:
        gradient = grad(lambda values: self._trained.task.loss(values, batch).sum())
        return lambda along: jvp(gradient, (raw,), (along,))[1]

    def _by_output(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        weights = self._weights(batch)
        return lambda along: weights * along

    @torch.no_grad()
    def _weights(self, batch: Batch) -> Float[Tensor, " batch"]:
        task = self._trained.task
        found = task.curvature(run_model(task, self._trained.model, batch, self.dtype), batch)
        if found is None:
            raise ConfigError(
                f"{type(task).__name__} has no d2loss/df2, so that curvature: output is none; set curvature: loss."
            )
        return found

    def _split(self, vector: Float[Tensor, " p"]) -> dict[str, Tensor]:
        sizes = [value.numel() for value in self._parameters.values()]
        parts = zip(self._parameters.items(), vector.split(sizes), strict=True)
        return {name: part.view(value.shape).to(value.dtype) for (name, value), part in parts}

    def _check(self) -> None:
        if self._of_loss:
            require_loss_by_example(self._trained, "set curvature: output, which takes d2loss/df2 of the task")
        else:
            self._weights(one_example(self._trained))


def _dtype(model: nn.Module) -> torch.dtype:
    found = floating_type(model)
    if found is None or found.itemsize < 4:
        raise ConfigError(
            f"The model computes in {found}, in which products with its Gauss-Newton matrix have too few digits to be "
            "inverted by; load it in float32."
        )
    return found


def _constants(model: nn.Module, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    frozen = {name: value.detach() for name, value in model.named_parameters() if name not in parameters}
    return {**frozen, **dict(model.named_buffers())}


def _call(model: nn.Module, tensors: dict[str, Tensor], *args: Any, **kwargs: Any) -> Any:
    return functional_call(model, tensors, args, kwargs)


@contextmanager
def _forward_derivatives() -> Iterator[None]:
    """Have attention computed by operations that have forward derivatives, and say so where others have none."""
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except (RuntimeError, NotImplementedError) as error:
        if not any(word in str(error) for word in ("forward AD", "vmap", "functorch")):
            raise
        raise ConfigError(
            "A product with the Gauss-Newton matrix needs forward derivatives of the model under torch.func.vmap, "
            f"where it fails: {' '.join(str(error).split())[:200]}. Change the model, or choose the method ekfac."
        ) from error
