"""The captions of the paper's figures: what a reader needs to know of where the numbers come from."""

from collections.abc import Iterator, Mapping
from typing import Any

from trakflow.config.schema import Config
from trakflow.figures.style import method_name

SHOWS = {
    "lds_vs_compute": "LDS (linear datamodeling score) against seconds, of each method alone and with the training of "
    "the checkpoints that it needs; a method has a point for each number of checkpoints, or of retrained subsets. "
    "Seconds are those of the jobs' work, without the start of an interpreter; the medians of {repeats}, but for "
    "retrained models, which are many. Upper axes: the same in forward and backward passes of the model over the "
    "training set, {seconds:.3g} s each (median of {passes}).",
    "lds_vs_checkpoints": "LDS against the number of checkpoints that each method averages over.",
    "sketches": "LDS of TRAK against the number of features k of each sketch (left), at {ridge}, "
    "and against the ridge at the k named in the legend (right).",
    "ablation": "LDS of TRAK and without each of its parts. The first rows share the method's ridge, {ridge}; rows "
    "with other features have their own, and those that say so a relative ridge of 1, as checkpoints on everything "
    "must. Dashed: the method itself.",
    "cheap_checkpoints": "LDS of TRAK against what training the checkpoints takes, for checkpoints from whole runs, "
    "from shorter ones, and from several epochs of each; the relative ridge is 1 everywhere.",
    "removal": "How often a target's prediction flips (left), and how far its output moves (right), when models are "
    "trained again without the training examples that a method ranks highest for it.",
    "mislabel": "How precisely each method's self-influence, the score of a training example on itself, finds labels "
    "that were exchanged for wrong ones, against the part of them that is found; in the legend, the average precision.",
    "gallery": "Targets with the training examples that raise (left) and lower (right) their output most, by TRAK.",
}
# Those with a line for each method; the others show TRAK alone.
COMPARE_METHODS = ("lds_vs_compute", "lds_vs_checkpoints", "removal", "mislabel")
# Those with methods that are fitted on retrained models, or a soft-threshold that is chosen on them.
READ_FITTED = ("lds_vs_compute", "removal", "mislabel", "ablation")
# Those that take a method's scores with the most checkpoints that it has, which may be fewer than the experiment's.
OF_MOST_CHECKPOINTS = ("removal", "mislabel")


def caption(name: str, config: Config, facts: Mapping[str, Any]) -> str:
    """Write a figure's caption.

    Args:
        name: Of the figure.
        config: The experiment.
        facts: `experiment`; of the unit of compute `machine`, `threads`, `seconds`, `passes` and `parameters` (of the
            model that are trained); and for `lds_vs_compute` the fewest `repeats` of a job that reads checkpoints.
    """
    return "\n".join(
        [
            SHOWS[name].format(ridge=_ridge(config), **facts),
            "",
            f"Experiment {facts['experiment']}: {config.data.train_size:,} training examples by "
            f"{described(config.data.train)}, {config.data.target_count:,} targets; model {described(config.model)}, "
            f"{facts['parameters']:,} trained parameters; {config.checkpoints.total} checkpoints, "
            f"{_trained_on(config)}; seed {config.seed}.",
            *_methods(name, config),
            *_evaluated(name, config),
            f"Machine: {facts['machine']}, {facts['threads']} thread(s) a job.",
            "",
        ]
    )


def described(component: Mapping[str, Any]) -> str:
    """Write what makes a part of the experiment, with its numbers and names: `mlp.MLP(inputs=64, outputs=10)`.

    Left out is what is not set, and where files lie.
    """
    module, _, name = component["_target_"].rpartition(".")
    written = {key: _written(value) for key, value in component.items() if key != "_target_"}
    arguments = ", ".join(f"{key}={value}" for key, value in written.items() if value is not None)
    return f"{module.rpartition('.')[2]}.{name}({arguments})"


def _written(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and "/" in value):
        return None
    if isinstance(value, Mapping):
        return described(value) if "_target_" in value else None
    return str(value)


def _trained_on(config: Config) -> str:
    checkpoints = config.checkpoints
    if checkpoints.files is not None:
        return "brought, and " + (
            "each trained on a part of the data" if checkpoints.on_subsets else "no masks of them"
        )
    return f"each trained on {f'{checkpoints.fraction:g}' if checkpoints.on_subsets else 'all'} of the data"


def _ridge(config: Config) -> str:
    solver = config.solver
    if solver.ridge != "auto":
        return f"a ridge of {solver.ridge:g} ({solver.ridge_unit})"
    if config.checkpoints.on_subsets and config.checkpoints.total > 1:
        return "the ridge that the self-LDS chose"
    return "a relative ridge of 1"


def _methods(name: str, config: Config) -> Iterator[str]:
    sketch = config.sketch
    k = "" if sketch.k is None else f" with k = {sketch.k:,}"
    if name != "sketches":
        sized = config.paper.trak_k if config.paper is not None and name == "lds_vs_compute" else []
        named = " and ".join(f"{size:,}" for size in sized)
        yield f"TRAK: sketch {sketch.name}{k}{f', and {named} where the legend says so' if sized else ''}."
    if name in COMPARE_METHODS:
        others = [
            method_name(method) + _particulars(name, method, config)
            for method, settings in config.method.items()
            if name != "lds_vs_checkpoints" or settings.reads_checkpoints
        ]
        yield f"Other methods: {', '.join(others) or 'none'}."


def _particulars(name: str, method: str, config: Config) -> str:
    """Return what is other than the experiment's, in brackets."""
    settings, most = config.method[method], config.counts_of(method)[-1:]
    found = [f"k = {settings.make['k']:,}"] if settings.make.get("k") else []
    if name in OF_MOST_CHECKPOINTS and settings.reads_checkpoints and most != [config.checkpoints.total]:
        found.append(f"{most[0]} checkpoint" + "s" * (most[0] > 1))
    return f" ({', '.join(found)})" if found else ""


def _evaluated(name: str, config: Config) -> Iterator[str]:
    evaluation, fitting, removal = config.evaluation, config.fitting, config.removal
    drawn = f"{evaluation.confidence:.0%} bootstrap ({evaluation.bootstrap:,} resamples)"
    if name == "gallery":
        return
    if name == "removal":
        yield f"{removal.targets} targets with {removal.retrains} retrains each. Intervals: {drawn} over targets."
    elif name == "mislabel":
        yield f"Intervals: {drawn} over training examples."
    elif evaluation.source != "none":
        retrained = f"{evaluation.subsets} subsets with {evaluation.retrains} retrains each"
        yield f"LDS over {retrained if evaluation.source == 'retrain' else 'subsets of the user'}."
        yield f"Intervals: {drawn} over targets and subsets."
    if config.fitted_methods and name in READ_FITTED:
        yield f"Fitted on retrained models: up to {fitting.subsets} further subsets, {fitting.retrains} model(s) each."
