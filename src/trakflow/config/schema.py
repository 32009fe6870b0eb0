"""The one typed source of the configuration's schema, with the sections that are imported here.

Hydra composes YAML from ``config/``; these models say which keys exist, of which type and in which range. Unknown keys
are errors everywhere but inside a component (a mapping with ``_target_``), whose keys are its callable's arguments.
"""

import math
from typing import Annotated

from pydantic import Field, NonNegativeInt, model_validator

from trakflow.config.attribution import Fitting, Method, Scores, Sketch, Solver
from trakflow.config.evaluation import Evaluation, Figures, Paper, Removal
from trakflow.config.fitted_methods import check_fitted, check_in_some_and_not_all
from trakflow.config.gram_matrices import check_inverse
from trakflow.config.running import Job, Runtime
from trakflow.config.section import Component, PositiveInt, Section
from trakflow.config.task_needs import check_output, check_task
from trakflow.config.training import Checkpoints, Data, Targets, Training
from trakflow.layout import RANDOM, TRAK


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
                f"shards={self.shards} is more than data.train_size={size}; a shard holds at least one example: set "
                "shards lower (1 unless featurizing takes minutes)"
            )
        if self.solver.ridge == 0 and self.sketch.k is not None and self.sketch.k >= size:
            raise ValueError(
                f"solver.ridge=0 needs sketch.k={self.sketch.k} to be smaller than data.train_size={size}, or the "
                "system has no unique solution; choose a smaller k, or solver.ridge=auto or a positive number"
            )
        if self.evaluation.source != "none" and not self.scores.dense:
            raise ValueError("the LDS sums dense scores; set scores.dense=true, or evaluation=none")
        if self.scores.topk > size:
            raise ValueError(
                f"scores.topk={self.scores.topk} is more than data.train_size={size}; set it to at most {size}"
            )
        if self.scores.groups == "labels" and classes is None:
            raise ValueError(
                "scores.groups=labels sums over classes, and data.num_classes says that there are none; set "
                "data.num_classes, or scores.groups to own or null"
            )
        check_output(self.targets, self.data)
        if self.figures.shown_target >= self.data.target_count:
            raise ValueError(
                f"figures.shown_target={self.figures.shown_target} but data.target_count={self.data.target_count}, and "
                f"targets count from 0; set it to at most {self.data.target_count - 1}"
            )
        self._epochs_are_there()
        self._methods_are_there()
        self._subsets_exist()
        self._examples_are_in_some_subsets()
        self._examples_can_be_removed()
        self._targets_are_the_training_examples()
        self._sketches_have_their_device()
        check_task(self.task, self.data)
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
                raise ValueError(
                    f"method.{name}.counts={method.counts}, but {setting} is {total}; set "
                    f"{self._setting_of_counts(name)} to numbers of at most that"
                )
            check_inverse(name, method.make, self.data.train_size)
            if method.reads == "retrained":
                check_fitted(name, method.make, self.counts_of(name), self._setting_of_fitted(name))

    def _setting_of_fitted(self, name: str) -> str:
        own = self.method[name].counts is not None
        return self._setting_of_counts(name) if own else "fitting.counts and fitting.subsets"

    def _setting_of_counts(self, name: str) -> str:
        # The files of methods take their counts from those of the paper's figures, where these name them.
        of_figures = [] if self.paper is None else list(self.paper.counts.items())
        own = self.method[name].counts
        return f"paper.counts.{name}" if (name, own) in of_figures else f"method.{name}.counts"

    def _subsets_exist(self) -> None:
        size = self.data.train_size
        evaluated = ("evaluation.fraction", self.evaluation.fraction)
        wanted = [("evaluation.subsets", self.evaluation.subsets, *evaluated)] * (self.evaluation.source == "retrain")
        if self.fitted_methods:
            wanted.append(("fitting.subsets", self.fitting.subsets, *evaluated))
        if self.checkpoints.files is None and self.checkpoints.trained_on == "halves":
            wanted.append(
                ("checkpoints.count", self.checkpoints.total, "checkpoints.fraction", self.checkpoints.fraction)
            )
        for name, count, part, fraction in wanted:
            chosen = math.floor(fraction * size)
            if not 0 < chosen < size:
                raise ValueError(
                    f"{part}={fraction:g} of data.train_size={size} examples is empty or everything; set it to a part "
                    f"that holds at least one and leaves one out, for example 0.5"
                )
            # Far more than anyone asks for, and slow to count.
            if min(chosen, size - chosen) > 64:
                continue
            if count > math.comb(size, chosen):
                raise ValueError(
                    f"{name}={count} is more than the {math.comb(size, chosen)} subsets of {chosen} out of {size} "
                    f"examples that exist; set it lower, or {part} nearer to a half"
                )

    def _examples_are_in_some_subsets(self) -> None:
        size, fraction = self.data.train_size, self.evaluation.fraction
        for name in self.fitted_methods:
            counts, setting = self.counts_of(name), self._setting_of_fitted(name)
            check_in_some_and_not_all(name, self.method[name].make, counts, setting, size, fraction, self.seed)

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
                f"removal.targets={self.removal.targets} is more than data.target_count={self.data.target_count}; set "
                f"it to at most {self.data.target_count}"
            )
        if not self.scores.dense:
            raise ValueError("removal ranks examples by dense scores; set scores.dense=true, or removal.counts=[]")

    def _sketches_have_their_device(self) -> None:
        if self.runtime.device.startswith("cuda"):
            return
        found = f"is a CUDA kernel, but runtime.device is {self.runtime.device}; set runtime.device=cuda"
        if self.sketch.name == "fast_jl":
            raise ValueError(
                f"sketch=fast_jl {found}, or use sketch=rademacher (a dense matrix on any device) or sketch=sjlt"
            )
        if self.paper is not None and "fast_jl" in self.paper.sketches:
            raise ValueError(f"paper.sketches.fast_jl {found}, or leave it out")

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
