"""Settings of the evaluation and of figures."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, model_validator

from trakflow.config.attribution import Projection, RidgeGrid
from trakflow.config.section import PositiveInt, Section


class Evaluation(Section):
    """The linear datamodeling score: subsets, retrained models, and the interval."""

    source: Literal["retrain", "files", "none"] = "retrain"
    subsets: PositiveInt = 100
    retrains: PositiveInt = 3
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5
    models_per_batch: PositiveInt = 50
    checkpoint_counts: list[PositiveInt] = [1, 2, 5, 10]
    masks: str | None = None
    outputs: str | None = None
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95

    @model_validator(mode="after")
    def _files_given(self) -> "Evaluation":
        given = {"evaluation.masks": self.masks, "evaluation.outputs": self.outputs}
        missing = [name for name, path in given.items() if path is None]
        if self.source == "files" and missing:
            raise ValueError(
                "source=files reads the LDS's subsets and outputs from files of your own; set "
                + " and ".join(f"{name} to the path of a .npy" for name in missing)
            )
        if self.source != "files" and len(missing) < len(given):
            raise ValueError(
                f"{' and '.join(name for name in given if name not in missing)} would not be read by "
                f"source={self.source}; choose evaluation=files, or set the path to null"
            )
        if self.source == "retrain" and self.subsets < 3:
            raise ValueError(
                f"subsets={self.subsets}: a rank correlation needs at least 3 subsets; set it higher (100 by default), "
                "or evaluation=none"
            )
        return self


class Removal(Section):
    """Removal of the examples that each method ranks highest, for some targets; without `counts` there is none."""

    counts: list[PositiveInt] = []
    targets: PositiveInt = 30
    retrains: PositiveInt = 3


class Published(Section):
    """A point of the figure of LDS against compute that others published."""

    method: str
    minutes: PositiveFloat
    lds: float


def _check_colour(value: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", value):
        raise ValueError(f"{value!r} is no colour; write it as #rrggbb, for example '#2166ac'")
    return value


Colour = Annotated[str, AfterValidator(_check_colour)]


class Figures(Section):
    """Style and choice of what is drawn; a change redraws and computes nothing else."""

    font_size: PositiveFloat = 9.0
    dpi: PositiveInt = 160
    palette: Annotated[list[Colour], Field(min_length=1)]
    gallery_targets: PositiveInt = 6
    gallery_examples: PositiveInt = 5
    shown_target: NonNegativeInt = 0
    published: list[Published] = []


class Paper(Section):
    """What `paper_figures` runs beside the experiment itself; null where an experiment draws no such figures.

    Attributes:
        sketches: Numbers of features k of each sketch in the figure of LDS against k.
        ridges: Ridges of the figure of LDS against the ridge; null for a variant that it does not show.
        epochs: Of one run, whose weights are attributed by in the figure of cheap checkpoints; ascending.
        epoch_runs: Of how many runs, in one variant each; ascending; null for one of one and one of all.
        ablation: Whether there is a table of ablations, which holds the features of all checkpoints in memory.
        counts: Numbers of checkpoints of methods that are slow: of `tracin`, `gas`, `influence_function`,
            `influence_arnoldi`, `ekfac`, `traker` and `dattri`; the experiment's for those that are not named.
        trak_k: Further numbers of features k of TRAK in the figure of LDS against compute; ascending.
        peer_k: Number of features of `traker` and `dattri`, which without a ridge must be smaller than that of
            examples; left out, the experiment's.
        arnoldi_iterations: Of `influence_arnoldi`; left out, the method's own.
        arnoldi_eigenvalues: How many of them it keeps; left out, the method's own.
    """

    sketches: dict[Projection, Annotated[list[PositiveInt], Field(min_length=1)]] = {}
    ridges: RidgeGrid | None = RidgeGrid(points=13)
    epochs: list[PositiveInt] = []
    epoch_runs: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    ablation: bool = True
    counts: dict[
        Literal["tracin", "gas", "influence_function", "influence_arnoldi", "ekfac", "traker", "dattri"],
        list[PositiveInt],
    ] = {}
    trak_k: list[PositiveInt] = []
    peer_k: PositiveInt | None = None
    arnoldi_iterations: PositiveInt | None = None
    arnoldi_eigenvalues: PositiveInt | None = None

    @model_validator(mode="after")
    def _numbers_ascend(self) -> "Paper":
        for name, numbers in (("epochs", self.epochs), ("epoch_runs", self.epoch_runs or []), ("trak_k", self.trak_k)):
            if numbers != sorted(set(numbers)):
                raise ValueError(f"{name}={numbers} must ascend, each once")
        if self.epoch_runs is not None and not self.epochs:
            raise ValueError(
                f"epoch_runs={self.epoch_runs} says of how many runs epochs are kept; set epochs, or it to null"
            )
        return self
