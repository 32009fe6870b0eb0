"""What each stage reads of the configuration: the params of its rule, and the fingerprint in its files.

A changed setting makes exactly the stages run again that read it. `VERSIONS` is part of it: raise a stage's number when
its code changes what it writes, and everything made by the old code is made again.
"""

from collections.abc import Callable
from typing import Any

from trakflow.config.schema import Config
from trakflow.config.user_code import with_source
from trakflow.config.variants import ablated_variants, cheap_variants, sized_variants, sketch_variants

VERSIONS = {
    "prepare_train": 2,
    "prepare_targets": 2,
    "train_checkpoint": 2,
    "import_checkpoint": 1,
    "import_mask": 1,
    "featurize": 4,
    "import_features": 1,
    "featurize_targets": 4,
    "finalize": 2,
    "choose_ridge": 5,
    "score": 3,
    "attribute": 1,
    "subsets": 2,
    "retrain": 3,
    "retrained_outputs": 2,
    "evaluate": 2,
    "retrain_on_all": 1,
    "remove": 1,
    "retrain_without": 1,
    "evaluate_removal": 1,
    "evaluate_mislabel": 1,
    "forward_backward": 3,
    "compute": 1,
    "variant": 1,
    "ablate": 1,
    "draw_paper": 2,
    "figures": 4,
}


def stage_settings(config: Config, stage: str) -> dict[str, Any]:
    """Return the part of the configuration that a stage's results depend on, with the version of its code.

    Args:
        config: The experiment.
        stage: A key of `VERSIONS`.

    Returns:
        JSON-able values.
    """
    return {"version": VERSIONS[stage], **_READS[stage](config)}


def method_settings(config: Config, method: str) -> dict[str, Any]:
    """Return the part of the configuration that the scores of a method beside TRAK depend on; as `stage_settings`."""
    settings = config.method[method]
    reads: dict[str, Any] = {
        "version": VERSIONS["attribute"],
        "reads": settings.reads,
        "make": with_source(settings.make),
    }
    if settings.reads_checkpoints:
        reads |= {"model": with_source(config.model), "task": with_source(config.task)}
    return {**reads, "seed": config.seed}


def _checkpoint_training(config: Config) -> dict[str, Any]:
    parts = config.checkpoints
    subset: dict[str, Any] = {"fraction": parts.fraction} if parts.on_subsets else {}
    if parts.epochs is not None:
        subset["epochs"] = parts.epochs
    return {**_recipe(config), "train_size": config.data.train_size, "trained_on": parts.trained_on, **subset}


def _recipe(config: Config) -> dict[str, Any]:
    # Ensembles and single models train alike (with dropout: equally distributed), so which it was is left out.
    return {
        "seed": config.seed,
        "model": with_source(config.model),
        "task": with_source(config.task),
        "training": config.training.model_dump(exclude={"ensemble"}),
    }


def _gradients(config: Config) -> dict[str, Any]:
    return {
        "seed": config.seed,
        "model": with_source(config.model),
        "task": with_source(config.task),
        "sketch": config.sketch.model_dump(),
    }


def _prepare_targets(config: Config) -> dict[str, Any]:
    reads: dict[str, Any] = {
        "targets": with_source(config.data.targets),
        "target_count": config.data.target_count,
        "num_classes": config.data.num_classes,
        "output": config.targets.output,
    }
    if config.targets.output == "predicted":
        reads |= {"model": with_source(config.model), "task": with_source(config.task)}
    return reads


def _choose_ridge(config: Config) -> dict[str, Any]:
    solver = config.solver
    if solver.ridge != "auto":
        return {"ridge": solver.ridge, "ridge_unit": solver.ridge_unit}
    return {"ridge": "auto", "on_subsets": config.checkpoints.on_subsets, "grid": solver.ridge_grid.model_dump()}


def _score(config: Config) -> dict[str, Any]:
    named = {"class_names": config.data.class_names} if config.scores.groups == "labels" else {}
    return {**config.scores.model_dump(), **named}


def _subsets(config: Config) -> dict[str, Any]:
    return {"seed": config.seed, "train_size": config.data.train_size, "fraction": config.evaluation.fraction}


def _lds(config: Config) -> dict[str, Any]:
    settings = config.evaluation
    reads = {
        "seed": config.seed,
        "bootstrap": settings.bootstrap,
        "confidence": settings.confidence,
    }
    if settings.source == "files":
        return {**reads, "masks": settings.masks, "outputs": settings.outputs}
    return {**reads, "subsets": settings.subsets, "retrains": settings.retrains}


def _counts(config: Config) -> dict[str, Any]:
    return {"counts": {method: config.counts_of(method) for method in config.methods}}


def _evaluate_removal(config: Config) -> dict[str, Any]:
    return {
        "seed": config.seed,
        "bootstrap": config.evaluation.bootstrap,
        "confidence": config.evaluation.confidence,
        "methods": config.removal_methods,
        **config.removal.model_dump(),
    }


_READS: dict[str, Callable[[Config], dict[str, Any]]] = {
    "prepare_train": lambda config: {
        "train": with_source(config.data.train),
        "train_size": config.data.train_size,
        "num_classes": config.data.num_classes,
    },
    "prepare_targets": _prepare_targets,
    "train_checkpoint": _checkpoint_training,
    "import_mask": lambda config: {"train_size": config.data.train_size},
    "import_checkpoint": lambda config: {"model": with_source(config.model)},
    "featurize": _gradients,
    # Compared with what featurizing gives, so a new version of that makes it run again.
    "import_features": lambda config: {
        **_gradients(config),
        "featurize": VERSIONS["featurize"],
        "features_from": config.features_from,
    },
    "featurize_targets": _gradients,
    "finalize": lambda config: {"weights": config.solver.weights},
    "choose_ridge": _choose_ridge,
    "score": _score,
    "attribute": lambda config: {name: method_settings(config, name) for name in config.method},
    "subsets": _subsets,
    "retrain": _recipe,
    "retrained_outputs": lambda config: {"model": with_source(config.model), "task": with_source(config.task)},
    "evaluate": lambda config: {**_lds(config), **_counts(config)},
    "retrain_on_all": _recipe,
    "remove": lambda config: {"seed": config.seed},
    "retrain_without": _recipe,
    "evaluate_removal": _evaluate_removal,
    "evaluate_mislabel": lambda config: {
        "seed": config.seed,
        "bootstrap": config.evaluation.bootstrap,
        "confidence": config.evaluation.confidence,
        "methods": config.methods,
    },
    "forward_backward": lambda config: {"model": with_source(config.model), "task": with_source(config.task)},
    "compute": lambda config: {**_counts(config), "sized": list(sized_variants(config).values())},
    "variant": lambda config: {**_lds(config), "counts": config.counts_evaluated},
    "ablate": lambda config: {**_lds(config), "variants": ablated_variants(config)},
    "draw_paper": lambda config: {
        "variants": [*sketch_variants(config).values(), *cheap_variants(config).values()],
        "published": [point.model_dump() for point in config.figures.published],
        "methods": config.methods,
    },
    "figures": lambda config: {
        "style": config.figures.model_dump(include={"font_size", "dpi", "palette"}),
        "class_names": config.data.class_names,
    },
}
