"""The one typed source of the configuration's schema.

Hydra composes YAML from ``config/``; these models say which keys exist, of which type and in which range. Unknown keys
are errors everywhere but inside a component (a mapping with ``_target_``), whose keys are its callable's arguments.
"""

import importlib.util
import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    model_validator,
)

from trakflow.config.gram_matrices import check_inverse
from trakflow.layout import RANDOM, TRAK


def _check_component(value: dict[str, Any]) -> dict[str, Any]:
    target = value.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise ValueError("needs `_target_: package.module.name`, the callable that makes it")
    if unset := [name for name, argument in value.items() if argument == "???"]:
        raise ValueError(f"`{unset[0]}` is required and was not set")
    try:
        exists = _module_exists(target)
    except Exception as error:
        raise ValueError(f"`_target_: {target}` cannot be imported: {type(error).__name__}: {error}") from error
    if not exists:
        raise ValueError(
            f"`_target_: {target}` names no importable module; install its package, or put the module beside a folder "
            "listed in `config_dirs`"
        )
    return value


def _module_exists(target: str) -> bool:
    # Nested classes have several trailing names, so any importable prefix will do. Looking for a module runs the
    # packages around it, as Python must, but not the module itself.
    parts = target.split(".")[:-1]
    for length in range(len(parts), 0, -1):
        try:
            if importlib.util.find_spec(".".join(parts[:length])) is not None:
                return length == len(parts) or parts[length][:1].isupper()
        except ModuleNotFoundError:
            continue
    return False


Component = Annotated[dict[str, Any], AfterValidator(_check_component)]


# Counts are multiplied by fractions, which is exact up to here; no data set comes near.
PositiveInt = Annotated[int, Field(gt=0, lt=2**53)]


class Section(BaseModel):
    """A part of the configuration: frozen, closed to unknown keys, and strict about types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Section):
    """Where examples come from; the sizes are stated so that the DAG is known before any data is read."""

    train: Component
    targets: Component
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
        if self.epochs is not None and self.epochs != sorted(set(self.epochs)):
            raise ValueError(f"epochs={self.epochs} must ascend, each once")
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


# Sketches to k numbers.
Projection = Literal["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher", "fast_jl"]


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


class Method(Section):
    """An attribution method other than TRAK, which has rules of its own.

    `reads` says what it computes scores from: one checkpoint after another (`checkpoint`), whose scores are averaged;
    several checkpoints at once (`checkpoints`), which it averages over by itself; models retrained on subsets that the
    evaluation never sees (`retrained`); or nothing of the kind, so that there is one array of scores (`neither`).

    `counts` are the numbers of checkpoints, or of retrained subsets, that it is evaluated with; null for the
    experiment's.
    """

    reads: Literal["checkpoint", "checkpoints", "retrained", "neither"]
    counts: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
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
    """What is written of the scores."""

    dense: bool = True
    topk: PositiveInt = 20
    groups: Literal["own", "labels"] | None = None


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
        if any((path is not None) != (self.source == "files") for path in (self.masks, self.outputs)):
            raise ValueError("source=files and the two paths masks and outputs belong together: give all three or none")
        if self.source == "retrain" and self.subsets < 3:
            raise ValueError("a rank correlation needs at least 3 subsets")
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


class Figures(Section):
    """Style and choice of what is drawn; a change redraws and computes nothing else."""

    font_size: PositiveFloat = 9.0
    dpi: PositiveInt = 160
    palette: list[str]
    gallery_targets: PositiveInt = 6
    gallery_examples: PositiveInt = 5
    shown_target: NonNegativeInt = 0
    published: list[Published] = []


class Paper(Section):
    """What `paper_figures` runs beside the experiment itself; null where an experiment draws no such figures.

    Attributes:
        sketches: Numbers of features k of each sketch in the figure of LDS against k.
        ridges: Ridges of the figure of LDS against the ridge; null for a variant that it does not show.
        epochs: Of one run, whose weights are attributed by in the figure of cheap checkpoints.
        counts: Numbers of checkpoints of methods that are slow: of `traker`, `dattri`, `influence_function`,
            `influence_arnoldi` and `ekfac`; the experiment's for those that are not named.
        peer_k: Number of features of `traker` and `dattri`, which without a ridge must be smaller than that of
            examples; null for the experiment's.
    """

    sketches: dict[Projection, Annotated[list[PositiveInt], Field(min_length=1)]] = {}
    ridges: RidgeGrid | None = RidgeGrid(points=13)
    epochs: list[PositiveInt] = []
    counts: dict[
        Literal["traker", "dattri", "influence_function", "influence_arnoldi", "ekfac"], list[PositiveInt]
    ] = {}
    peer_k: PositiveInt | None = None


class Runtime(Section):
    """Where and how fast: nothing here changes results beyond rounding, so nothing here makes a rule run again."""

    device: str = "cpu"
    batch_size: Literal["auto"] | PositiveInt = "auto"
    threads: PositiveInt = 1
    memory_mb: PositiveInt = 2000
    minutes: PositiveInt = 60
    repeats: PositiveInt = 1

    @property
    def forward_batch_size(self) -> int:
        """Examples at a time where no gradient is taken."""
        return 256 if self.batch_size == "auto" else self.batch_size


class Job(Section):
    """Which piece of work one script call does; filled in by the rules."""

    results: str | None = None
    log: str | None = None
    checkpoint: NonNegativeInt | None = None
    count: PositiveInt | None = None
    shard: NonNegativeInt | None = None
    retrain: NonNegativeInt | None = None
    batch: NonNegativeInt | None = None
    method: str | None = None
    figure: str | None = None
    purpose: Literal["evaluation", "fitting"] = "evaluation"
    variant_of: str | None = None
    own_checkpoints: bool = False


class Config(Section):
    """A whole experiment."""

    seed: NonNegativeInt
    data: Data
    model: Component
    checkpoints: Checkpoints
    training: Training
    task: Component
    shards: PositiveInt
    features_from: str | None = None
    targets: Targets
    sketch: Sketch
    solver: Solver
    scores: Scores
    methods: Annotated[list[Annotated[str, Field(pattern="^[a-z0-9_]+$")]], Field(min_length=1)] = [TRAK]
    method: dict[str, Method] = {}
    fitting: Fitting = Fitting()
    evaluation: Evaluation
    removal: Removal = Removal()
    mislabel: bool = False
    figures: Figures
    paper: Paper | None = None
    runtime: Runtime
    job: Job = Job()

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        size, classes = self.data.train_size, self.data.num_classes
        if self.shards > size:
            raise ValueError(
                f"shards={self.shards} is more than data.train_size={size}; a shard holds at least one example"
            )
        if self.solver.ridge == 0 and self.sketch.k is not None and self.sketch.k >= size:
            raise ValueError(
                f"solver.ridge=0 needs sketch.k={self.sketch.k} to be smaller than data.train_size={size}, or the "
                "system has no unique solution; choose a smaller k, or solver.ridge=auto or a positive number"
            )
        if self.evaluation.source != "none" and not self.scores.dense:
            raise ValueError("the LDS sums dense scores; set scores.dense=true, or evaluation=none")
        if self.scores.topk > size:
            raise ValueError(f"scores.topk={self.scores.topk} is more than data.train_size={size}")
        if self.scores.groups == "labels" and classes is None:
            raise ValueError(
                "scores.groups=labels sums over classes, and data.num_classes says that there are none; set "
                "data.num_classes, or scores.groups to own or null"
            )
        if isinstance(self.targets.output, int) and (classes is None or self.targets.output >= classes):
            raise ValueError(f"targets.output={self.targets.output} is no label: data.num_classes is {classes}")
        if self.figures.shown_target >= self.data.target_count:
            raise ValueError(
                f"figures.shown_target={self.figures.shown_target} but data.target_count={self.data.target_count}"
            )
        self._epochs_are_there()
        self._methods_are_there()
        self._subsets_exist()
        self._examples_can_be_removed()
        self._targets_are_the_training_examples()
        return self

    def _epochs_are_there(self) -> None:
        kept = self.checkpoints.epochs
        for name, epochs in (("checkpoints.epochs", kept), ("paper.epochs", self.paper.epochs if self.paper else [])):
            if epochs and max(epochs) > self.training.epochs:
                raise ValueError(f"{name}={epochs} asks for more than training.epochs={self.training.epochs}")
        if kept is not None and self.checkpoints.on_subsets and self.solver.ridge == "auto":
            raise ValueError(
                "solver.ridge=auto predicts each checkpoint by those that were trained on other examples, and several "
                "checkpoints.epochs of a run were trained on the same; set solver.ridge to a number, for example 1.0"
            )

    def _methods_are_there(self) -> None:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods={self.methods} names one of them twice")
        if self.methods[0] != TRAK:
            raise ValueError(
                f"methods={self.methods} must begin with {TRAK}, whose scores the galleries show; the others are "
                "computed beside it"
            )
        if set(self.method) != set(self.methods) - {TRAK}:
            raise ValueError(f"methods={self.methods}, but there are settings for {sorted(self.method)}")
        for name, method in self.method.items():
            setting, total = (
                ("fitting.subsets", self.fitting.subsets)
                if method.reads == "retrained"
                else ("the number of checkpoints", self.checkpoints.total)
            )
            if method.counts is not None and method.counts[-1] > total:
                raise ValueError(f"method.{name}.counts={method.counts}, but {setting} is {total}")
            check_inverse(name, method.make, self.data.train_size)

    def _subsets_exist(self) -> None:
        size = self.data.train_size
        wanted = [("evaluation.subsets", self.evaluation.subsets, self.evaluation.fraction)] * (
            self.evaluation.source == "retrain"
        )
        if self.fitted_methods:
            wanted.append(("fitting.subsets", self.fitting.subsets, self.evaluation.fraction))
        if self.checkpoints.files is None and self.checkpoints.trained_on == "halves":
            wanted.append(("checkpoints.count", self.checkpoints.total, self.checkpoints.fraction))
        for name, count, fraction in wanted:
            chosen = math.floor(fraction * size)
            if not 0 < chosen < size:
                raise ValueError(f"a part of {fraction:g} of data.train_size={size} examples is empty or everything")
            # Far more than anyone asks for, and slow to count.
            if min(chosen, size - chosen) > 64:
                continue
            if count > math.comb(size, chosen):
                raise ValueError(
                    f"{name}={count} is more than the {math.comb(size, chosen)} subsets of {chosen} out of {size} "
                    "examples that exist"
                )

    def _examples_can_be_removed(self) -> None:
        counts = self.removal.counts
        if not counts:
            return
        if len(set(counts)) < len(counts):
            raise ValueError(f"removal.counts={counts} names one of them twice")
        if self.data.num_classes is None:
            raise ValueError(
                "removal asks how often a predicted label changes, and data.num_classes says that there are no labels; "
                "set removal.counts=[], or data.num_classes"
            )
        if max(counts) >= self.data.train_size:
            raise ValueError(f"removal.counts={counts} leaves nothing of data.train_size={self.data.train_size}")
        if self.removal.targets > self.data.target_count:
            raise ValueError(
                f"removal.targets={self.removal.targets} is more than data.target_count={self.data.target_count}"
            )
        if not self.scores.dense:
            raise ValueError("removal ranks examples by dense scores; set scores.dense=true, or removal.counts=[]")

    def _targets_are_the_training_examples(self) -> None:
        if not self.mislabel:
            return
        if self.data.targets != self.data.train or self.data.target_count != self.data.train_size:
            raise ValueError(
                "mislabel=true asks of every training example what it says of itself, so targets must be the training "
                "examples: set data.targets to ${data.train} and data.target_count to ${data.train_size} (see "
                "data=digits_mislabelled), or mislabel=false"
            )
        if self.data.num_classes is None:
            raise ValueError("mislabel=true looks for wrong labels, and data.num_classes says that there are none")
        if self.targets.output != "true_label":
            raise ValueError(
                f"mislabel=true needs scores of the label that each example was given; set targets.output=true_label, "
                f"not {self.targets.output}"
            )
        if not self.scores.dense:
            raise ValueError("mislabel=true reads dense scores; set scores.dense=true, or mislabel=false")

    @property
    def removal_methods(self) -> list[str]:
        """Methods whose highest ranked examples are removed; random examples are, also where no method draws them."""
        return [*self.methods, *({RANDOM} - set(self.methods))]

    @property
    def fitted_methods(self) -> list[str]:
        """Methods that are fitted on retrained models."""
        return [name for name, method in self.method.items() if method.reads == "retrained"]

    def counts_of(self, method: str) -> list[int]:
        """Return the numbers of checkpoints, or of retrained subsets, that a method is evaluated with, ascending."""
        if method == TRAK:
            return self.counts_evaluated
        settings = self.method[method]
        if settings.counts is not None:
            return settings.counts if self.evaluation.source != "none" else settings.counts[-1:]
        if settings.reads_checkpoints:
            return self.counts_evaluated
        if settings.reads == "neither":
            return [1]
        return self.fitting.counts_fitted if self.evaluation.source != "none" else [self.fitting.subsets]

    @property
    def counts_evaluated(self) -> list[int]:
        """Numbers of checkpoints for which scores and their LDS are reported, ascending; the last is all of them."""
        total = self.checkpoints.total
        if self.evaluation.source == "none":
            return [total]
        return sorted({count for count in self.evaluation.checkpoint_counts if count < total} | {total})

    @property
    def partial_counts(self) -> list[int]:
        """The numbers of checkpoints evaluated beside all of them, ascending."""
        return self.counts_evaluated[:-1]
