"""What the arguments of a TRAKer mean here, and a sentence for each that can mean nothing."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from typing import Any, get_args

from torch import nn

from trakflow.config.attribution import Sketch as SketchSettings
from trakflow.errors import ConfigError
from trakflow.sketches.base import Sketch
from trakflow.sketches.build import build_sketch
from trakflow.sketches.gradients import GradientSketch
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.tasks.base import Task
from trakflow.traker.model_output import ModelOutputTask, is_model_output
from trakflow.traker.projector import ProjectorProjection, is_no_projection, is_projector, projector_facts

TASKS = {
    "image_classification": "trakflow.tasks.classification.Classification",
    "iterative_image_classification": "trakflow.tasks.iterative.IterativeClassification",
    "regression": "trakflow.tasks.regression.Regression",
    "clip": "trakflow.tasks.clip.CLIP",
    "language_modeling": "trakflow.tasks.language_modeling.LogOdds",
    "log_probability": "trakflow.tasks.language_modeling.LogProbability",
    "text_classification": "trakflow.tasks.text_classification.TextClassification",
}
SKETCHES = get_args(SketchSettings.model_fields["name"].annotation)
DEFAULT_SKETCH = "tensor_sketch"
DEFAULT_K = 2048
FACTORIZED_SIDE = 32
INSTEAD = {
    "gradient_computer": "gradients are a part of the sketch: leave it out, and choose projector='sjlt' for explicit "
    "per-example gradients",
    "saver": "results lie in save_dir in files that any process may add to: leave it out",
    "score_computer": "scores are streamed in bounded memory: leave it out, and set lambda_reg or relative_ridge",
}


def refuse_parts(**parts: object) -> None:
    """Refuse parts of the paper's library that this class does not have.

    Raises:
        ConfigError: Names the argument, and what to use instead.
    """
    for name, value in parts.items():
        if value is not None:
            raise ConfigError(f"{name} must be None: {INSTEAD[name]}.")


def make_task(task: Any) -> Task:
    """Return the task that an argument names or is.

    Raises:
        ConfigError: It is neither a known name, nor a `Task`, nor has the methods of a task of the paper's library.
    """
    if isinstance(task, str):
        if task not in TASKS:
            raise ConfigError(f"task='{task}' is unknown; there are {', '.join(TASKS)}, and tasks of your own.")
        module, _, name = TASKS[task].rpartition(".")
        return getattr(import_module(module), name)()
    if isinstance(task, Task):
        return task
    if is_model_output(task):
        return ModelOutputTask(task)
    raise ConfigError(
        f"task is {type(task).__name__}; give a name ({', '.join(TASKS)}), a trakflow.tasks.base.Task, or an instance "
        "of a class with get_output and get_out_to_loss_grad."
    )


def task_name(task: Task) -> str:
    """Return the class of a task, by which files know it."""
    kind = type(task.task) if isinstance(task, ModelOutputTask) else type(task)
    return f"{kind.__module__}.{kind.__qualname__}"


def task_settings(task: Task) -> dict[str, Any]:
    """Return the plain attributes of a task, by which files know one from another of its class."""
    holder = task.task if isinstance(task, ModelOutputTask) else task
    return {name: value for name, value in vars(holder).items() if isinstance(value, (int, float, str, bool))}


def has_curvature(task: Task) -> bool:
    """Whether a task defines W."""
    return type(task).curvature is not Task.curvature


@dataclass(frozen=True)
class SketchChoice:
    """The sketch of a TRAKer: one of ours by settings, or a projector written for the paper's library.

    Attributes:
        settings: Of one of our sketches.
        projector: Or such a projector.
        seed: The experiment's seed.
    """

    settings: SketchSettings
    projector: Any
    seed: int

    def build(self, model: nn.Module, task: Task, model_id: int, device: str) -> Sketch:
        """Make the sketch of one model, which has the weights of that checkpoint.

        Raises:
            DeviceError: As `build_sketch`.
            SketchError: As `build_sketch`.
        """
        if self.projector is None:
            return build_sketch(self.settings, model, task, self.seed, model_id, device)
        parameters = differentiated_parameters(model, self.settings.parameters)
        sizes = {name: parameter.numel() for name, parameter in parameters.items()}
        return GradientSketch(model, task, ProjectorProjection(self.projector, sizes, model_id), parameters)

    @property
    def facts(self) -> dict[str, Any]:
        """What features depend on, JSON-able."""
        own = {"seed": self.seed} if self.projector is None else projector_facts(self.projector)
        return {**self.settings.model_dump(), **own}

    def traker_scale(self, k: int) -> int:
        """How many times the Gram matrix of the paper's library is ours, but for its division of gradients by sqrt(p).

        Its matrices have entries of variance 1, ours of variance 1 / k.
        """
        return 1 if self.projector is not None or self.settings.name == "identity" else k


def choose_sketch(
    projector: Any, proj_dim: int | None, seed: int, grad_wrt: Iterable[str] | None, half: bool, model: nn.Module
) -> SketchChoice:
    """Read the arguments that say what features are.

    Raises:
        ConfigError: The projector is unknown or contradicts proj_dim, proj_dim is no number of features, or grad_wrt
            names no parameter of the model.
    """
    shared: dict[str, Any] = {"parameters": _patterns(grad_wrt, model), "dtype": "float16" if half else "float32"}
    if projector is None or isinstance(projector, str):
        return SketchChoice(_named(projector or DEFAULT_SKETCH, proj_dim, shared), None, seed)
    if not is_projector(projector):
        raise ConfigError(
            f"projector is {type(projector).__name__}; give the name of a sketch ({', '.join(SKETCHES)}) or an "
            "instance with project(gradients, model_id) and proj_dim."
        )
    if is_no_projection(projector):
        return SketchChoice(_named("identity", None, shared), None, seed)
    k = int(projector.proj_dim)
    if proj_dim not in (None, k):
        raise ConfigError(f"proj_dim={proj_dim} but the projector has proj_dim={k}; leave proj_dim out.")
    # A sketch that any k fits; the projector takes the place of its random matrix.
    return SketchChoice(SketchSettings(name="gaussian", k=k, **shared), projector, seed)


def _named(name: str, k: int | None, shared: dict[str, Any]) -> SketchSettings:
    if name not in SKETCHES:
        raise ConfigError(f"projector='{name}' is unknown; there are {', '.join(SKETCHES)}.")
    if name == "identity":
        if k is not None:
            raise ConfigError(
                f"projector='identity' (or one with proj_dim 0) keeps every gradient entry; leave proj_dim={k} out."
            )
        return SketchSettings(name="identity", **shared)
    if k is not None and (isinstance(k, bool) or not isinstance(k, Integral) or k < 1):
        raise ConfigError(f"proj_dim={k!r} must be an integer of at least 1, the number of features.")
    side = FACTORIZED_SIDE if name == "factorized" else None
    # By model_validate: which of the names it is was checked above, which a type checker cannot see.
    return SketchSettings.model_validate(
        {"name": name, "k": DEFAULT_K if k is None else int(k), "side": side, **shared}
    )


def _patterns(grad_wrt: Iterable[str] | None, model: nn.Module) -> list[str] | None:
    if grad_wrt is None:
        return None
    names = [grad_wrt] if isinstance(grad_wrt, str) else list(grad_wrt)
    known = dict(model.named_parameters())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(
            f"grad_wrt names {unknown or 'nothing'}; parameters of the model are, for example, "
            f"{', '.join(list(known)[:8])}."
        )
    return [glob.escape(name) for name in names]
