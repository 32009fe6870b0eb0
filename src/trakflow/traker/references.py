"""The examples that a task compares with, for tasks that do."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trakflow.data.examples import read_arrays
from trakflow.errors import ConfigError
from trakflow.store.array_file import ArrayFile
from trakflow.store.files import fingerprint
from trakflow.tasks.base import Task
from trakflow.tasks.preparation import ReferencedTask, reference_rows
from trakflow.traker.batches import named_tensors
from trakflow.traker.folder import SaveDir
from trakflow.traker.hashes import row_hashes


def references_of(
    task: Task, given: Any, fields: Sequence[str] | None, total: int, folder: SaveDir, device: torch.device
) -> dict[str, Tensor] | None:
    """Return the batch of reference examples, or None for a task that compares with none.

    Args:
        task: The task.
        given: A batch of them, or None.
        fields: Names of a batch's tensors in order.
        total: Number of training examples.
        folder: Where results lie; where that is the workflow's, the references are those of the workflow.
        device: Where they are to be.

    Raises:
        ConfigError: They are missing, or given where they have no meaning.
    """
    rows = reference_rows(task, total) if folder.of_workflow else None
    needed = isinstance(task, ReferencedTask)
    if given is not None and (not needed or folder.of_workflow):
        why = f"{folder.root} says which they are" if needed else f"{type(task).__name__} compares with no examples"
        raise ConfigError(f"references must be None: {why}.")
    if not needed:
        return None
    if rows is not None:
        arrays = read_arrays(ArrayFile(folder.layout.train), rows)
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    if given is None:
        raise ConfigError(
            f"{type(task).__name__} compares an example with reference examples: give a batch of training examples as "
            "references=(...). Every checkpoint that is loaded embeds them anew."
        )
    return {name: value.to(device) for name, value in named_tensors(given, fields).items()}


def references_facts(references: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Return what settings say of the references: nothing where there are none."""
    return {} if references is None else {"references": fingerprint(row_hashes(references)[:, 1].tolist())}
