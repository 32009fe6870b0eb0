"""Checkpoints with the data, as attribution methods are given them."""

from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np
from torch import Tensor

from trakflow.config.schema import Config
from trakflow.layout import Layout
from trakflow.methods.base import Trained
from trakflow.stages.common import (
    check_model,
    device_of,
    load_model,
    make_task,
    references_of,
    target_tensors,
    tensors,
)
from trakflow.store.array_file import ArrayFile
from trakflow.store.numpy_files import map_numpy
from trakflow.tasks.preparation import prepared


class FirstCheckpoints(Sequence[Trained]):
    """The first checkpoints, each loaded when it is asked for and not kept; the data is read once.

    Args:
        config: The experiment.
        layout: Of its results folder.
        count: How many checkpoints.
    """

    def __init__(self, config: Config, layout: Layout, count: int):
        self._config, self._layout, self._count = config, layout, count
        self._train: Mapping[str, Tensor] = tensors(ArrayFile(layout.train), device_of(config))
        self._targets: Mapping[str, Tensor] = target_tensors(ArrayFile(layout.targets), device_of(config))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, chosen: int) -> Trained: ...

    @overload
    def __getitem__(self, chosen: slice) -> list[Trained]: ...

    def __getitem__(self, chosen: int | slice) -> Trained | list[Trained]:
        """Load a checkpoint; a slice loads all of them at once."""
        if isinstance(chosen, slice):
            return [self._load(number) for number in range(self._count)[chosen]]
        return self._load(range(self._count)[chosen])

    def _load(self, checkpoint: int) -> Trained:
        config, layout = self._config, self._layout
        # A file may be there of checkpoints that the folder had before.
        known = config.checkpoints.on_subsets
        model, task = load_model(config, layout.checkpoint(checkpoint)), make_task(config)
        check_model(config, model, task, self._train)
        return Trained(
            model=model,
            task=prepared(task, model, references_of(config, layout, task)),
            train=self._train,
            targets=self._targets,
            mask=np.array(map_numpy(layout.checkpoint_mask(checkpoint))) if known else None,
            number=checkpoint,
            seed=config.seed,
            batch_size=config.runtime.forward_batch_size,
            memory_bytes=config.runtime.memory_mb * 2**20 // 2,
            device=str(device_of(config)),
        )
