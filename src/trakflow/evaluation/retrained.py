"""What models retrained on subsets said of the targets, read from a results folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from trakflow.config.shards import batch_count
from trakflow.errors import StoreError
from trakflow.layout import EVALUATION, Layout
from trakflow.store.array_file import ArrayFile, content
from trakflow.store.yaml_file import read_yaml, unreadable

Retrained = tuple[Bool[np.ndarray, "subsets n"], Float32[np.ndarray, "retrains subsets m"]]


def read_batches(layout: Layout, retrains: int, batches: int, purpose: str = EVALUATION) -> Retrained:
    """Return the masks of all subsets and the outputs of all models retrained on them.

    Args:
        layout: Of the results folder.
        retrains: How many models there are of each subset.
        batches: In how many batches the subsets lie.
        purpose: `evaluation`, or `fitting` for those that methods are fitted on.

    Raises:
        StoreError: A file is missing or damaged, or outputs were made on other subsets.
    """
    files = [ArrayFile(layout.subsets(batch, purpose)) for batch in range(batches)]
    masks = np.concatenate([file.read("masks") for file in files]).astype(bool)
    return masks, np.stack([_outputs(layout, number, files, purpose) for number in range(retrains)])


def read_retrained(results: Path | str) -> Retrained:
    """Return the same of a results folder of the workflow: as many as its `config.yaml` says, or all that lie there.

    Raises:
        StoreError: No retrained models have been evaluated there, or a file is missing or damaged.
    """
    layout = Layout(str(results))
    # More may lie there, of an evaluation that the folder had before.
    retrains, batches = _configured(layout) if Path(layout.config).is_file() else _found(layout)
    if not retrains or not batches:
        raise StoreError(
            f"{results} holds no outputs of retrained models; run the workflow with evaluation=retrain first."
        )
    return read_batches(layout, retrains, batches)


def _configured(layout: Layout) -> tuple[int, int]:
    try:
        settings = read_yaml(layout.config)["evaluation"]
        if settings["source"] != "retrain":
            return 0, 0
        return settings["retrains"], batch_count(settings["subsets"], settings["models_per_batch"])
    except (KeyError, TypeError) as error:
        raise unreadable(layout.config, "it is no configuration of trakflow") from error


def _found(layout: Layout) -> tuple[int, int]:
    # Not what a job that was killed left behind, which begins with a dot.
    patterns = (layout.retrained_outputs("[0-9]*", 0), layout.subsets("[0-9]*"))
    root = Path(layout.root)
    retrains, batches = (len(list(root.glob(str(Path(pattern).relative_to(root))))) for pattern in patterns)
    return retrains, batches


def _outputs(layout: Layout, number: int, masks: Sequence[ArrayFile], purpose: str) -> Float32[np.ndarray, "subsets m"]:
    parts = []
    for batch, file in enumerate(masks):
        outputs = ArrayFile(layout.retrained_outputs(number, batch, purpose))
        if outputs.provenance["masks"] != content(file):
            raise StoreError(
                f"{outputs.path} was made on other subsets than {file.path}. Delete it and run the same command again."
            )
        parts.append(outputs.read("outputs"))
    return np.concatenate(parts)
