"""What trakflow's own tasks need of the data, checked before anything is prepared or trained."""

from collections.abc import Mapping
from typing import Any

from trakflow.config.training import Data, Targets

CLASSIFIERS = {
    "trakflow.tasks.classification.Classification",
    "trakflow.tasks.iterative.IterativeClassification",
    "trakflow.tasks.text_classification.TextClassification",
}
LANGUAGE_MODELS = {"trakflow.tasks.language_modeling.LogOdds", "trakflow.tasks.language_modeling.LogProbability"}
CONTRASTS = {"trakflow.tasks.clip.CLIP"}


def check_task(task: Mapping[str, Any], data: Data) -> None:
    """Refuse data that a task of trakflow's cannot take; what the user's own take is not known here.

    Args:
        task: Its component.
        data: Settings of the data.

    Raises:
        ValueError: The task needs classes or has none, or compares with more examples than there are.
    """
    name, classes = task["_target_"].rpartition(".")[2], data.num_classes
    if task["_target_"] in CLASSIFIERS and (classes is None or classes < 2):
        raise ValueError(
            f"data.num_classes is {'null' if classes is None else classes}, but task {name} tells classes apart; set "
            "data.num_classes to how many there are, or another task (task=regression for numbers, task=clip for "
            "images and texts, task=language_modeling for sequences)"
        )
    if task["_target_"] in LANGUAGE_MODELS and classes is not None:
        raise ValueError(
            f"data.num_classes is {classes}, but task {name} is of language models, which have no classes; set "
            "data.num_classes=null, or a task of classification"
        )
    references = task.get("simulated_batch_size")
    if task["_target_"] in CONTRASTS and isinstance(references, int) and references > data.train_size:
        raise ValueError(
            f"task.simulated_batch_size={references} is more than data.train_size={data.train_size}, of which these "
            "reference pairs are drawn; set it lower"
        )


def check_output(targets: Targets, data: Data) -> None:
    """Refuse to attribute the output of a label that there is not.

    Raises:
        ValueError: There are no labels, or fewer.
    """
    output, classes = targets.output, data.num_classes
    if output == "true_label" or (classes is not None and (output == "predicted" or output < classes)):
        return
    if classes is None:
        raise ValueError(
            f"targets.output={output} chooses a label, and data.num_classes says that there are none; set "
            "targets.output=true_label, or data.num_classes"
        )
    raise ValueError(
        f"targets.output={output} is no label: data.num_classes is {classes}, and labels count from 0; set it to at "
        f"most {classes - 1}, or to true_label or predicted"
    )
