"""The factorized sketch: a layer's inputs and output gradients are projected before they are multiplied.

The gradient G of a matrix is a sum of outer products, so P_out^T G P_in is the sum of the outer products of projected
vectors, and G never exists. A dimension no larger than `side` is kept as it is. Vectors (biases, scales) are hashed
into one block of side^2 features together. An optional second, sparse stage brings the concatenation of blocks to k.

E<Px, Py> = <x, y>; for a gradient of rank one the squared norm has relative variance (1 + 2/k_in)(1 + 2/k_out) - 1,
about 4/side, where a transform of the whole gradient to side^2 features has 2/side^2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from trakflow.errors import ConfigError
from trakflow.seeds import derive_seed, generator
from trakflow.sketches.capture import Receiver
from trakflow.sketches.contributions import Contribution, Elementwise, Kept, Lookup, Outer, Patches
from trakflow.sketches.hashing import Hash, add_count_sketch
from trakflow.sketches.hooked import Accumulator, HookedSketch
from trakflow.sketches.sjlt import SparseProjection
from trakflow.tasks.base import Batch, Task

SECOND_STAGE = "blocks"
NARROW = 16


@dataclass(frozen=True)
class Block:
    """Where a matrix goes, and by which projections.

    Attributes:
        columns: Of the features.
        outer: P_out (rows x k_out), or None where the rows are kept.
        inner: P_in (columns x k_in), or None where the columns are kept.
    """

    columns: slice
    outer: Float[Tensor, "rows k_out"] | None
    inner: Float[Tensor, "columns k_in"] | None


@dataclass(frozen=True)
class Plan:
    """The blocks of all parameters.

    Attributes:
        blocks: Of the matrices.
        vectors: Hashes of the vectors' entries into the last block.
        vector_columns: Of the features.
        shapes: Of all parameters.
    """

    blocks: Mapping[str, Block]
    vectors: Mapping[str, Hash]
    vector_columns: slice
    shapes: Mapping[str, torch.Size]

    @property
    def width(self) -> int:
        """Number of features of the first stage."""
        return self.vector_columns.stop


def make_plan(shapes: Mapping[str, torch.Size], side: int, seed: int, dtype: torch.dtype, device: torch.device) -> Plan:
    """Draw the projections of every parameter.

    Args:
        shapes: Of the parameters, in order.
        side: Largest number of features of either side of a matrix.
        seed: Names the projections.
        dtype: Of the projections.
        device: Where they are.
    """
    blocks: dict[str, Block] = {}
    start = 0
    for name, shape in shapes.items():
        if len(shape) < 2:
            continue
        rows, columns = shape[0], shape[1:].numel()
        size = min(rows, side) * min(columns, side)
        outer, inner = (
            None if length <= side else _normal(length, side, seed, name, role).to(device, dtype)
            for length, role in ((rows, "rows"), (columns, "columns"))
        )
        blocks[name] = Block(slice(start, start + size), outer, inner)
        start += size
    sizes = {name: shape.numel() for name, shape in shapes.items() if len(shape) < 2}
    vectors, width = _vector_hashes(sizes, side * side, seed, device)
    return Plan(blocks, vectors, slice(start, start + width), dict(shapes))


def _normal(size: int, side: int, seed: int, name: str, role: str) -> Float[Tensor, "size side"]:
    random = generator(seed, "factorized", name, role)
    return torch.from_numpy(random.standard_normal((size, side), dtype="float32")) / side**0.5


def _vector_hashes(
    sizes: Mapping[str, int], width: int, seed: int, device: torch.device
) -> tuple[dict[str, Hash], int]:
    total = sum(sizes.values())
    if total > width:
        return {
            name: Hash.draw(size, width, device, seed, "factorized", name, "vector") for name, size in sizes.items()
        }, width
    places = torch.arange(total, dtype=torch.int32, device=device).split(list(sizes.values())) if sizes else ()
    ones = torch.ones(total, device=device)
    return {name: Hash(own, ones[: len(own)]) for name, own in zip(sizes, places, strict=True)}, total


class Factorized(HookedSketch):
    """Features from projected layer inputs and output gradients.

    Args:
        model: The model with its weights.
        task: Defines the output.
        parameters: Those that features are gradients by.
        side: Largest number of features of either side of a matrix.
        k: Number of features after a second, sparse stage; None for all of the first.
        seed: Names the projections.

    Raises:
        ConfigError: A second stage would not make the features fewer.
        SketchError: A module is not covered.
    """

    def __init__(
        self, model: nn.Module, task: Task, parameters: Mapping[str, Tensor], side: int, k: int | None, seed: int
    ):
        super().__init__(model, task, parameters)
        self._plan = make_plan(self._shapes, side, seed, self._dtype, self._device)
        if k is not None and k >= self._plan.width:
            raise ConfigError(
                f"sketch.k={k} is not smaller than the {self._plan.width} features that side={side} gives this model, "
                "so a second stage would only lose; set sketch.k=null, or a larger sketch.side (with TRAKer: a smaller "
                "proj_dim)."
            )
        self.k = k or self._plan.width
        self._second = (
            None
            if k is None
            else SparseProjection(
                {SECOND_STAGE: self._plan.width}, k, derive_seed(seed, "second stage"), device=self._device
            )
        )

    def bytes_per_example(self, example: Batch) -> int:
        """As for every hooked sketch, with the first stage's features and the projected patches of convolutions."""
        return super().bytes_per_example(example) + 4 * (2 * self._plan.width + self._projected_patches(example))

    def _projected_patches(self, example: Batch) -> int:
        sizes = PatchSizes(self.accumulator(1))
        self._capture.run(example, 1, sizes)
        return sizes.entries

    def accumulator(self, batch: int) -> "FactorizedAccumulator":
        """Return a receiver for one batch."""
        return FactorizedAccumulator(self._plan, batch, self._dtype, self._device, self._second)


class PatchSizes(Receiver):
    """Counts the entries of projected patches, which may be more than those of the inputs."""

    def __init__(self, accumulator: "FactorizedAccumulator"):
        self.entries = 0
        self._accumulator = accumulator

    def hold(self, contribution: Contribution) -> None:
        """Count."""
        if isinstance(contribution, Patches):
            self.entries += self._accumulator.hold(contribution).patches.numel()

    def add(self, held: Any, output_gradient: Tensor) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class ProjectedOuter:
    """An `Outer` whose inputs are projected: all that is left of the forward pass."""

    parameter: str
    inputs: Kept
    first_row: int
    transposed: bool


@dataclass(frozen=True)
class ProjectedPatches:
    """`Patches` whose patches are projected: (batch * repeats) x groups x k_in x positions."""

    parameter: str
    patches: Tensor
    groups: int


class FactorizedAccumulator(Accumulator):
    """The features of one batch.

    Args:
        plan: The projections.
        batch: Number of examples.
        dtype: Of the features.
        device: Where they are.
        second: The second stage, if there is one.
    """

    def __init__(
        self, plan: Plan, batch: int, dtype: torch.dtype, device: torch.device, second: SparseProjection | None
    ):
        self._plan = plan
        self._batch = batch
        self._first = torch.zeros(batch, plan.width, dtype=dtype, device=device)
        self._second = second

    def hold(self, contribution: Contribution) -> Any:
        """Project the input's side now, so that the input itself need not be kept."""
        if isinstance(contribution, Outer):
            return self._project_inputs(contribution)
        return self._project_patches(contribution) if isinstance(contribution, Patches) else contribution

    def add(self, held: Any, output_gradient: Tensor) -> None:
        """Add one contribution to its block."""
        if isinstance(held, ProjectedOuter):
            self._add_outer(held, output_gradient)
        elif isinstance(held, ProjectedPatches):
            self._add_patches(held, output_gradient)
        elif isinstance(held, Lookup):
            self._add_lookup(held, output_gradient)
        else:
            self._add_elementwise(held, output_gradient)

    def features(self) -> Float[Tensor, "batch k"]:
        """Return the blocks side by side, or their sketch."""
        if self._second is None:
            return self._first
        features = self._first.new_zeros(self._batch, self._second.k)
        self._second.add(features, SECOND_STAGE, self._first)
        return features

    def _add_block(self, parameter: str, left: Tensor, right: Tensor) -> None:
        """Add the products of (batch x positions x k_out) and (batch x positions x k_in)."""
        columns = self._plan.blocks[parameter].columns
        products = left.squeeze(1).unsqueeze(2) * right if left.shape[1] == 1 else left.transpose(1, 2) @ right
        self._first[:, columns] += products.flatten(1)

    def _project_inputs(self, contribution: Outer) -> ProjectedOuter:
        block = self._plan.blocks[contribution.parameter]
        matrix = block.outer if contribution.transposed else block.inner
        inputs = _projected(contribution.inputs.get().to(self._first.dtype), matrix)
        kept = Kept(inputs, contribution.parameter)
        return ProjectedOuter(contribution.parameter, kept, contribution.first_row, contribution.transposed)

    def _add_outer(self, held: ProjectedOuter, output_gradient: Tensor) -> None:
        block, inputs = self._plan.blocks[held.parameter], held.inputs.get()
        size = output_gradient.shape[-1]
        gradient = output_gradient.to(self._first.dtype).reshape(self._batch, -1, size)
        if held.transposed:
            self._add_block(held.parameter, inputs, _projected(gradient, block.inner))
        else:
            rows = slice(held.first_row, held.first_row + size)
            self._add_block(held.parameter, self._rows(held.parameter, gradient, rows), inputs)

    def _rows(self, parameter: str, gradient: Tensor, rows: slice) -> Tensor:
        """Project some of a parameter's rows."""
        block = self._plan.blocks[parameter]
        if block.outer is not None:
            return _projected(gradient, block.outer[rows])
        total = (block.columns.stop - block.columns.start) // self._inner_size(parameter)
        return functional.pad(gradient, (rows.start, total - rows.stop))

    def _inner_size(self, parameter: str) -> int:
        inner = self._plan.blocks[parameter].inner
        return self._plan.shapes[parameter][1:].numel() if inner is None else inner.shape[1]

    def _project_patches(self, contribution: Patches) -> ProjectedPatches:
        window = contribution.window
        inputs = contribution.inputs.get().to(self._first.dtype)
        shape = self._plan.shapes[contribution.parameter]
        inner = self._plan.blocks[contribution.parameter].inner
        # Where columns are kept, the filters pick single entries of the patch.
        filters = torch.eye(shape[1:].numel(), dtype=inputs.dtype, device=inputs.device) if inner is None else inner
        filters = filters.T.reshape(-1, *shape[1:])
        patches = window.convolve(inputs, filters.repeat(window.groups, *[1] * len(shape[1:])), window.groups)
        return ProjectedPatches(
            contribution.parameter, patches.flatten(2).unflatten(1, (window.groups, -1)), window.groups
        )

    def _add_patches(self, held: ProjectedPatches, output_gradient: Tensor) -> None:
        """Each group of output channels meets the patches of its own input channels."""
        outer = self._plan.blocks[held.parameter].outer
        gradient = output_gradient.to(self._first.dtype).flatten(2)
        total = torch.zeros((), dtype=gradient.dtype, device=gradient.device)
        for group, (own, patches) in enumerate(
            zip(gradient.chunk(held.groups, 1), held.patches.unbind(1), strict=True)
        ):
            size = own.shape[1]
            if outer is None:
                products = own @ patches.transpose(1, 2)
                total = total + functional.pad(products, (0, 0, group * size, (held.groups - group - 1) * size))
            else:
                total = total + (outer[group * size : (group + 1) * size].T @ own) @ patches.transpose(1, 2)
        columns = self._plan.blocks[held.parameter].columns
        self._first[:, columns] += total.unflatten(0, (self._batch, -1)).sum(dim=1).flatten(1)

    def _add_lookup(self, held: Lookup, output_gradient: Tensor) -> None:
        block, indices = self._plan.blocks[held.parameter], held.indices.get()
        right = _projected(held.outputs(output_gradient).to(self._first.dtype), block.inner)
        if block.outer is None:
            rows = self._plan.shapes[held.parameter][0]
            left = functional.one_hot(indices, rows).to(self._first.dtype)
        else:
            left = block.outer[indices]
        self._add_block(held.parameter, left, right)

    def _add_elementwise(self, held: Elementwise, output_gradient: Tensor) -> None:
        gradient = held.gradient(output_gradient).to(self._first.dtype)
        if held.parameter in self._plan.vectors:
            columns = self._plan.vector_columns
            rows = self._plan.vectors[held.parameter].part(held.first_row, gradient.shape[1])
            add_count_sketch(self._first[:, columns], gradient, rows)
            return
        block, shape = self._plan.blocks[held.parameter], self._plan.shapes[held.parameter]
        matrices = _projected(gradient.unflatten(1, (-1, shape[1:].numel())), block.inner).transpose(1, 2)
        chosen = slice(held.first_row, held.first_row + matrices.shape[2])
        self._first[:, block.columns] += self._rows(held.parameter, matrices, chosen).transpose(1, 2).flatten(1)


def _projected(vectors: Float[Tensor, "batch positions size"], matrix: Tensor | None) -> Tensor:
    if matrix is None:
        return vectors
    if vectors.shape[1] == 1 or matrix.shape[1] >= NARROW:
        return vectors @ matrix
    # The libraries of CPUs multiply by a narrow matrix from the left several times as fast as from the right.
    return (matrix.T.contiguous() @ vectors.transpose(1, 2)).transpose(1, 2)
