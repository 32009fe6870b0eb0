"""The Jacobian of a model at the examples that a checkpoint has seen, held in memory."""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vmap

from trakflow.tasks.base import Batch

Parameters = dict[str, Tensor]


class Jacobian:
    """Products with sum_i J_i^T H_i J_i by two matrix products, where J of all examples is held.

    Args:
        rows: J, the numbers of one example after those of another.
        second: H of each example, symmetric.
    """

    def __init__(self, rows: Float[Tensor, "numbers p"], second: Float[Tensor, "examples c c"]):
        self._rows, self._second = rows, second

    def __call__(self, vectors: Float[Tensor, "rows p"]) -> Float[Tensor, "rows p"]:
        """Return sum_i J_i^T H_i J_i v of each row v."""
        along = (vectors @ self._rows.T).unflatten(1, self._second.shape[:2])
        return torch.einsum("rnc,ncd->rnd", along, self._second).flatten(1) @ self._rows


def held(
    outputs: Callable[[Parameters, Batch], Tensor],
    curved: Callable[[Batch, Tensor], Callable[[Tensor], Tensor]],
    parameters: Parameters,
    batches: Iterable[Mapping[str, Tensor]],
    count: int,
) -> Jacobian:
    """Take the derivative of every number that the model returns for every example.

    Args:
        outputs: What the model returns for a batch (batch x ...), of parameters and batch.
        curved: Returns, for a batch and what the model returns for it, the function that multiplies H of each example
            by what is given for it.
        parameters: To be differentiated by, in the order of the columns.
        batches: The examples.
        count: How many examples there are.
    """

    def of_one(parameters: Parameters, example: Batch) -> Tensor:
        return outputs(parameters, {name: value.unsqueeze(0) for name, value in example.items()}).flatten()

    rows, second, filled = None, [], 0
    for batch in batches:
        found = vmap(jacrev(of_one), in_dims=(None, 0))(parameters, dict(batch))
        parts = [part.reshape(*part.shape[:2], -1) for part in map(found.pop, parameters)]
        examples, numbers = parts[0].shape[:2]
        if rows is None:
            rows = parts[0].new_empty(count * numbers, sum(part.shape[2] for part in parts))
        torch.cat([part.flatten(0, 1) for part in parts], dim=1, out=rows[filled : filled + examples * numbers])
        filled += examples * numbers
        values = outputs(parameters, batch).detach()
        second.append(_second(curved(batch, values), values))
    assert rows is not None  # a checkpoint has seen an example
    return Jacobian(rows, torch.cat(second).to(rows.dtype))


def _second(curved: Callable[[Tensor], Tensor], like: Tensor) -> Float[Tensor, "examples c c"]:
    """H of each example, a column at a time: its products with one number of each example."""
    columns = []
    for number in range(like[0].numel()):
        along = torch.zeros_like(like)
        along.view(len(like), -1)[:, number] = 1
        columns.append(curved(along).reshape(len(like), -1))
    return torch.stack(columns, dim=2)
