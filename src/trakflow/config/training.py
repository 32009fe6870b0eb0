"""Settings of what is attributed by and to: data, checkpoints, their training, targets."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from trakflow.config.section import Component, PositiveInt, Section


class Data(Section):
    """Where examples come from; the sizes are stated so that the DAG is known before any data is read.

    `files` are those that `train` and `targets` read, so that a changed one is noticed.
    """

    train: Component
    targets: Component
    files: list[str] = []
    train_size: PositiveInt
    target_count: PositiveInt
    num_classes: PositiveInt | None = None
    class_names: list[str] | None = None

    @model_validator(mode="after")
    def _names_match(self) -> "Data":
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f"class_names has {len(self.class_names)} names but num_classes is {self.num_classes}")
        return self


class Checkpoints(Section):
    """Trained here (`count`, each on a random part or on everything), or a list of the user's own `files`."""

    count: PositiveInt | None = None
    trained_on: Literal["halves", "everything"] = "halves"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    epochs: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    files: list[str] | None = None
    masks: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Checkpoints":
        if self.files is not None and not self.files:
            raise ValueError("files is empty: list at least one checkpoint file")
        if self.files is not None and self.count is not None:
            raise ValueError("give either count (train them here) or files (your own), and set the other to null")
        if self.files is None and self.count is None:
            raise ValueError("give count (train them here) or files (your own)")
        if self.masks is not None and self.files is None:
            raise ValueError("masks says which examples your own files were trained on; it needs files")
        if self.epochs is not None and self.files is not None:
            raise ValueError("epochs says when weights of runs trained here are kept; with files it means nothing")
        if self.files is not None and self.trained_on == "everything":
            raise ValueError(
                "trained_on says what runs here are trained on; of your own files masks says it, and without masks "
                "they count as trained on everything"
            )
        return self

    @model_validator(mode="after")
    def _files_are_distinct(self) -> "Checkpoints":
        files = [Path(file) for file in self.files or []]
        twice = [str(file) for number, file in enumerate(files) if file in files[:number]]
        if twice:
            raise ValueError(f"files names {twice[0]} twice, so that it would count twice in every mean; name it once")
        # With trained_on=everything it is ignored: a variant of the paper's figures sets that on any experiment.
        usual = type(self).model_fields["fraction"].default
        if self.files is not None and self.fraction != usual:
            raise ValueError(
                f"fraction={self.fraction:g} says on which part runs here are trained; of your own files masks says "
                f"it: leave fraction at {usual:g}"
            )
        return self

    @model_validator(mode="after")
    def _epochs_make_whole_runs(self) -> "Checkpoints":
        if self.epochs is None:
            return self
        if self.epochs != sorted(set(self.epochs)):
            raise ValueError(f"epochs={self.epochs} must ascend, each once")
        kept, total = len(self.epochs), self.total
        if total % kept:
            lower = total // kept * kept
            nearest = f"{lower} or {lower + kept}" if lower else str(kept)
            raise ValueError(
                f"count={total} is runs x epochs, and each run gives {kept} checkpoints by epochs={self.epochs}; set "
                f"count to {nearest}"
            )
        return self

    @property
    def total(self) -> int:
        """How many checkpoints there are."""
        return len(self.files) if self.files is not None else int(self.count or 0)

    def run_of(self, checkpoint: int) -> int:
        """Return which run of training gives a checkpoint: several of them give one each, or one for each epoch."""
        return checkpoint // len(self.epochs) if self.epochs is not None else checkpoint

    def epoch_of(self, checkpoint: int) -> int | None:
        """Return after which epoch of its run the weights are a checkpoint; None for the last."""
        return self.epochs[checkpoint % len(self.epochs)] if self.epochs is not None else None

    @property
    def on_subsets(self) -> bool:
        """Whether it is known which part of the data each checkpoint was trained on."""
        return self.masks is not None if self.files is not None else self.trained_on == "halves"


class Training(Section):
    """SGD with momentum, for the checkpoints and for the retrained subset models alike."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    ensemble: bool = True


class Targets(Section):
    """Whose output is attributed at a target: the true label's, the predicted one's, or a chosen label's."""

    output: Literal["true_label", "predicted"] | NonNegativeInt = "true_label"
