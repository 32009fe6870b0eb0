"""Settings of attribution: the sketch, the solver, scores, and other methods beside TRAK."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from trakflow.config.section import Component, PositiveInt, Section

# Sketches to k numbers.
Projection = Literal["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher", "fast_jl"]


class RidgeGrid(Section):
    """Candidates of `ridge: auto`, as multiples of the mean diagonal of the Gram matrix, log-spaced."""

    low: PositiveFloat = 1e-3
    high: PositiveFloat = 1e3
    points: Annotated[int, Field(ge=2)] = 25

    @model_validator(mode="after")
    def _ascending(self) -> "RidgeGrid":
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be less than high={self.high}")
        return self


def _yaml_switch(value: object) -> object:
    # YAML 1.1 reads a bare `on` or `off` as a boolean.
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Sketch(Section):
    """How a per-example gradient becomes k numbers."""

    name: Literal[Projection, "identity"]
    k: PositiveInt | None = None
    side: PositiveInt | None = None
    nonzeros: PositiveInt | None = None
    parameters: Annotated[list[str], Field(min_length=1)] | None = None
    dtype: Literal["float32", "float16"] = "float32"

    @model_validator(mode="after")
    def _k_fits(self) -> "Sketch":
        if self.name == "identity" and self.k is not None:
            raise ValueError("sketch=identity keeps every gradient entry, so it takes no k (set sketch.k=null)")
        if self.name not in ("identity", "factorized") and self.k is None:
            raise ValueError(f"sketch={self.name} needs k, the number of features")
        if (self.name == "factorized") != (self.side is not None):
            raise ValueError(
                "side, the number of features of each side of a layer's gradient, is a setting of sketch=factorized, "
                "which needs it; every other sketch has none"
            )
        if self.name != "sjlt" and self.nonzeros is not None:
            raise ValueError(f"nonzeros is a setting of sketch=sjlt; sketch={self.name} has none")
        if self.name == "sjlt" and self.k is not None and self.k % (self.nonzeros or 1):
            raise ValueError(
                f"k={self.k} must be a multiple of nonzeros={self.nonzeros}: each nonzero has its own block of k"
            )
        return self


class Solver(Section):
    """The kernel (Phi^T W Phi + ridge I)^-1."""

    weights: Annotated[Literal["on", "off"], BeforeValidator(_yaml_switch)] = "on"
    ridge: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    ridge_unit: Literal["relative", "absolute"] = "relative"
    ridge_grid: RidgeGrid = RidgeGrid()

    @model_validator(mode="after")
    def _unit_applies(self) -> "Solver":
        if self.ridge == "auto" and self.ridge_unit != "relative":
            raise ValueError("ridge=auto chooses a relative ridge; set ridge_unit=relative, or ridge to a number")
        return self


class Scores(Section):
    """What is written of the scores: `dense` and `groups` are of TRAK's; other methods always write theirs whole."""

    dense: bool = True
    topk: PositiveInt = 20
    groups: Literal["own", "labels"] | None = None


class Method(Section):
    """An attribution method other than TRAK, which has rules of its own.

    `reads` says what it computes scores from: one checkpoint after another (`checkpoint`), whose scores are averaged;
    several checkpoints at once (`checkpoints`), which it averages over by itself; models retrained on subsets that the
    evaluation never sees (`retrained`); or nothing of the kind, so that there is one array of scores (`neither`).

    `counts` are the numbers of checkpoints, or of retrained subsets, that it is evaluated with; null for the
    experiment's. `files` are those that it reads beside them, so that a changed one is noticed.
    """

    reads: Literal["checkpoint", "checkpoints", "retrained", "neither"]
    counts: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    files: list[str] = []
    make: Component

    @property
    def reads_checkpoints(self) -> bool:
        """Whether it computes scores from checkpoints, one after another or several at once."""
        return self.reads in ("checkpoint", "checkpoints")

    @model_validator(mode="after")
    def _counts_ascend(self) -> "Method":
        if self.counts is not None and self.reads == "neither":
            raise ValueError(
                f"counts={self.counts}, but the method reads neither checkpoints nor retrained models; set it to null"
            )
        if self.counts is not None and self.counts != sorted(set(self.counts)):
            raise ValueError(f"counts={self.counts} must ascend, each number once")
        return self


class Fitting(Section):
    """Models retrained on further subsets, for methods that are fitted on them; the evaluation never sees these."""

    subsets: PositiveInt = 500
    retrains: PositiveInt = 1
    counts: list[PositiveInt] = [50, 100, 200]

    @property
    def counts_fitted(self) -> list[int]:
        """Numbers of subsets that methods are fitted on, ascending; the last is all of them."""
        return sorted({count for count in self.counts if count < self.subsets} | {self.subsets})
