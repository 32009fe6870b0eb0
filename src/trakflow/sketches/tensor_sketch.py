"""The tensor sketch (Pham & Pagh 2013) of per-example gradients, which are sums of outer products.

A gradient's entry (r, c) goes to feature (h1(r) + h2(c)) mod k with the sign s1(r) s2(c): a sparse transform whose
hash is a sum. So the sketch of an outer product u x v is the circular convolution of the count sketches of u and v,
which the Fourier transform turns into a product; sums over positions and over layers can be taken before the inverse
one. Where that is dearer, the gradient of a layer is multiplied out for a few examples at a time and scattered by the
same hash.
E<Px, Py> = <x, y>.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from trakflow.devices import starts_at_once
from trakflow.sketches.contributions import Contribution, Elementwise, Lookup, Outer, Patches
from trakflow.sketches.hashing import (
    PARTS,
    ROWS_EACH,
    ColumnHash,
    Hash,
    add_count_sketch,
    has_triton_kernels,
    scatter_lookups,
    scatter_matrices,
    scatter_products,
)
from trakflow.sketches.hooked import Accumulator, HookedSketch
from trakflow.sketches.routes import ON_A_CPU, ON_A_GPU, Route, cheaper_route
from trakflow.tasks.base import Task

# Of temporary memory, where one example takes no more: what stays in the caches of a CPU between being written and
# being read; and on a GPU, which is slow to start, as many examples as there is room for beside a model.
CHUNK_BYTES = 1 << 22
CHUNK_BYTES_ON_A_GPU = 1 << 28


@dataclass(frozen=True)
class ParameterHash:
    """The hash of one parameter: of its first dimension, and of the others together."""

    rows: Hash
    columns: ColumnHash

    @classmethod
    def draw(cls, name: str, shape: torch.Size, k: int, seed: int, device: torch.device) -> "ParameterHash":
        """Draw the hash that (seed, name) names; a vector has one column, hashed to nothing."""
        rows = Hash.draw(shape[0] if shape else 1, k, device, seed, "tensor_sketch", name, "rows")
        if len(shape) < 2:
            return cls(rows, ColumnHash.trivial(device))
        return cls(rows, ColumnHash.draw(shape[1:].numel(), k, device, seed, "tensor_sketch", name, "columns"))


class TensorSketch(HookedSketch):
    """Sparse sketches of gradients, without the gradients.

    Args:
        model: The model with its weights.
        task: Defines the output.
        parameters: Those that features are gradients by.
        k: Number of features.
        seed: Names the hashes.
    """

    def __init__(self, model: nn.Module, task: Task, parameters: Mapping[str, Tensor], k: int, seed: int):
        super().__init__(model, task, parameters)
        self.k = k
        self._hashes = {
            name: ParameterHash.draw(name, shape, k, seed, self._device) for name, shape in self._shapes.items()
        }

    def accumulator(self, batch: int) -> "TensorSketchAccumulator":
        """Return a receiver for one batch."""
        return TensorSketchAccumulator(self._hashes, batch, self.k, self._dtype, self._device)


class TensorSketchAccumulator(Accumulator):
    """The sketch of one batch, partly as Fourier coefficients.

    Args:
        hashes: By parameter.
        batch: Number of examples.
        k: Number of features.
        dtype: Of the sums, float32 or float64.
        device: Where they are.
        route: One for all layers, instead of the cheaper one for each.
    """

    def __init__(
        self,
        hashes: Mapping[str, ParameterHash],
        batch: int,
        k: int,
        dtype: torch.dtype,
        device: torch.device,
        route: Route | None = None,
    ):
        self._hashes = hashes
        self._k = k
        self._route = route
        self._sums = torch.zeros(batch, k, dtype=dtype, device=device)
        self._one_by_one = starts_at_once(device)
        self._costs = ON_A_CPU if self._one_by_one else ON_A_GPU
        # Gradients of rank one are written out only where torch scatters them.
        self._writes_products = not (self._one_by_one or has_triton_kernels(device))
        self._chunk_bytes = CHUNK_BYTES if self._one_by_one else CHUNK_BYTES_ON_A_GPU
        self._coefficients: Complex[Tensor, "batch half"] | None = None

    def hold(self, contribution: Contribution) -> Contribution:
        """Keep it."""
        return contribution

    def add(self, held: Contribution, output_gradient: Tensor) -> None:
        """Add one contribution's sketch."""
        if isinstance(held, Outer):
            self._add_outer(held, output_gradient)
        elif isinstance(held, Patches):
            self._add_patches(held, output_gradient)
        elif isinstance(held, Lookup):
            self._add_lookup(held, output_gradient)
        else:
            self._add_elementwise(held, output_gradient)

    def features(self) -> Float[Tensor, "batch k"]:
        """Return the sketch."""
        if self._coefficients is not None:
            self._sums += torch.fft.irfft(self._coefficients, n=self._k)
            self._coefficients = None
        return self._sums

    def _add_elementwise(self, held: Elementwise, output_gradient: Tensor) -> None:
        own = self._hashes[held.parameter]
        gradient = held.gradient(output_gradient).to(self._sums.dtype)
        columns = len(own.columns.index)
        rows = own.rows.part(held.first_row, gradient.shape[1] // columns)
        if columns == 1:
            add_count_sketch(self._sums, gradient, rows)
        else:
            scatter_matrices(self._sums, gradient.unflatten(1, (-1, columns)), rows, own.columns)

    def _add_lookup(self, held: Lookup, output_gradient: Tensor) -> None:
        own, indices = self._hashes[held.parameter], held.indices.get()
        values = held.outputs(output_gradient).to(self._sums.dtype)
        # A number and the index of its feature.
        chunk = max(1, self._chunk_bytes // (values[0].numel() * (values.itemsize + 8)))
        for start in range(0, len(values), chunk):
            part = slice(start, start + chunk)
            scatter_lookups(self._sums[part], indices[part], values[part], own.rows, own.columns)

    def _add_outer(self, held: Outer, output_gradient: Tensor) -> None:
        own = self._hashes[held.parameter]
        outputs, inputs = held.outputs(output_gradient), held.inputs.get()
        left, right = (inputs, outputs) if held.transposed else (outputs, inputs)
        rows = own.rows.part(held.first_row, left.shape[2])
        route = self._route or cheaper_route(left.shape[2], right.shape[2], self._k, held.positional, self._costs)
        add = self._add_by_fourier if route == "fourier" else self._add_by_scatter
        chunk = max(1, self._chunk_bytes // (4 * self._numbers(left, right, route)))
        for start in range(0, len(left), chunk):
            part = slice(start, start + chunk)
            add(
                part,
                left[part].to(self._sums.dtype),
                right[part].to(self._sums.dtype),
                ParameterHash(rows, own.columns),
            )

    def _add_by_fourier(self, part: slice, left: Tensor, right: Tensor, own: ParameterHash) -> None:
        transformed = [self._transform(side, by) for side, by in ((left, own.rows), (right, own.columns))]
        if self._coefficients is None:
            half = self._k // 2 + 1
            self._coefficients = torch.zeros(len(self._sums), half, dtype=transformed[0].dtype, device=left.device)
        if left.shape[1] == 1:
            self._coefficients[part].addcmul_(transformed[0].squeeze(1), transformed[1].squeeze(1))
        else:
            self._coefficients[part] += transformed[0].mul_(transformed[1]).sum(dim=1)

    def _transform(self, vectors: Tensor, by: Hash) -> Complex[Tensor, "batch positions half"]:
        """Fourier coefficients of the count sketches of (batch x positions x size) vectors."""
        rows = vectors.flatten(0, 1)
        sketches = rows.new_zeros(len(rows), self._k)
        add_count_sketch(sketches, rows, by)
        return torch.fft.rfft(sketches).unflatten(0, vectors.shape[:2])

    def _add_by_scatter(self, part: slice, left: Tensor, right: Tensor, own: ParameterHash) -> None:
        if left.shape[1] == 1:
            scatter_products(self._sums[part], left.squeeze(1), right.squeeze(1), own.rows, own.columns)
        else:
            products = left.transpose(1, 2) @ right
            scatter_matrices(self._sums[part], products, own.rows, own.columns)

    def _add_patches(self, held: Patches, output_gradient: Tensor) -> None:
        own, inputs = self._hashes[held.parameter], held.inputs.get()
        rows, columns = len(own.rows.index), len(own.columns.index)
        repeats, positions = len(inputs) // held.batch, output_gradient[0, 0].numel()
        # Patches and the padded inputs that they are cut from, gradients, and their sketches.
        padded = 2 * inputs[0].numel() + held.window.groups * columns * positions
        numbers = repeats * (padded + rows * columns) + self._sketches(rows)
        chunk = self._chunk_bytes // (4 * numbers)
        # Patches of large images or volumes, which are many times as large as these, may be too large even of one.
        if self._one_by_one or chunk == 0:
            self._add_patches_one_by_one(held, output_gradient)
            return
        pairs = zip(output_gradient.split(chunk * repeats), inputs.split(chunk * repeats), strict=True)
        for sums, (gradient, part) in zip(self._sums.split(chunk), pairs, strict=True):
            gradients = held.window.weight_gradients(gradient, part).to(sums.dtype)
            if repeats > 1:
                gradients = gradients.unflatten(0, (-1, repeats)).sum(dim=1)
            scatter_matrices(sums, gradients, own.rows, own.columns)

    def _add_patches_one_by_one(self, held: Patches, output_gradient: Tensor) -> None:
        own = self._hashes[held.parameter]
        inputs, batch = held.inputs.get(), held.batch
        filters = output_gradient.new_empty(
            len(own.rows.index), inputs.shape[1] // held.window.groups, *held.window.kernel
        )
        chunk = max(1, CHUNK_BYTES // (4 * (filters.numel() + 2 * PARTS * self._k)))
        pairs = list(zip(output_gradient.chunk(batch), inputs.chunk(batch), strict=True))
        for start in range(0, batch, chunk):
            gradients = [
                held.window.weight_gradient(gradient, patch, filters).to(self._sums.dtype).flatten(1)
                for gradient, patch in pairs[start : start + chunk]
            ]
            scatter_matrices(self._sums[start : start + chunk], gradients, own.rows, own.columns)

    def _numbers(self, left: Tensor, right: Tensor, route: Route) -> int:
        """Numbers of temporary memory by example."""
        positions, rows, columns = left.shape[1], left.shape[2], right.shape[2]
        if route == "fourier":  # two sketches and their transforms
            return 4 * positions * self._k
        if positions > 1:
            return rows * columns + self._sketches(rows)
        if self._writes_products:
            return 2 * rows * columns
        return 2 * self._k if self._one_by_one else self._sketches(rows)

    def _sketches(self, rows: int) -> int:
        """Numbers of the sums that are added up in parts."""
        return 2 * PARTS * self._k if self._one_by_one else (1 + -(-rows // ROWS_EACH)) * self._k
