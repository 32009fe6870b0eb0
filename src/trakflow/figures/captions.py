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
    "sketches": "LDS against the number of features k of each sketch (left), at the ridge that the self-LDS chose, and "
    "against the ridge at each sketch's largest k (right).",
    "ablation": "LDS of TRAK and without each of its parts. The first rows share a ridge, which the self-LDS chose for "
    "the method; rows with other features or checkpoints have their own. Dashed: the method itself.",
    "cheap_checkpoints": "LDS against what training the checkpoints takes, for checkpoints from whole runs, from "
    "shorter ones, and from several epochs of each; the relative ridge is 1 everywhere.",
    "removal": "How often a target's prediction flips (left), and how far its output moves (right), when models are "
    "trained again without the training examples that a method ranks highest for it.",
    "mislabel": "How precisely each method's self-influence, the score of a training example on itself, finds labels "
    "that were exchanged for wrong ones, against the part of them that is found; in the legend, the average precision.",
    "gallery": "Targets with the training examples that raise (left) and lower (right) their output most, by TRAK.",
}


def caption(name: str, config: Config, facts: Mapping[str, Any]) -> str:
    """Write a figure's caption.

    Args:
        name: Of the figure.
        config: The experiment.
        facts: `experiment`; of the unit of compute `machine`, `threads`, `seconds` and `passes`; and for
            `lds_vs_compute` the fewest `repeats` of a job that reads checkpoints.
    """
    sketch, checkpoints = config.sketch, config.checkpoints
    trained = f"{checkpoints.fraction:g} of the data" if checkpoints.on_subsets else "all of the data"
    k = "" if sketch.k is None else f" with k = {sketch.k:,}"
    methods = ", ".join(method_name(method) for method in config.methods)
    return "\n".join(
        [
            SHOWS[name].format(**facts),
            "",
            f"Experiment {facts['experiment']}: {config.data.train_size:,} training examples, "
            f"{config.data.target_count:,} targets; model {config.model['_target_']}; {checkpoints.total} checkpoints, "
            f"each trained on {trained}; sketch {sketch.name}{k}; seed {config.seed}. Methods: {methods}.",
            *_evaluated(name, config),
            f"Machine: {facts['machine']}, {facts['threads']} thread(s) a job.",
            "",
        ]
    )


def _evaluated(name: str, config: Config) -> Iterator[str]:
    evaluation, fitting, removal = config.evaluation, config.fitting, config.removal
    if name == "removal":
        yield f"{removal.targets} targets with {removal.retrains} retrains each; intervals are over targets."
    elif evaluation.source != "none":
        retrained = f"{evaluation.subsets} subsets with {evaluation.retrains} retrains each"
        yield f"LDS over {retrained if evaluation.source == 'retrain' else 'subsets of the user'}."
    yield f"Intervals: {evaluation.confidence:.0%} bootstrap, {evaluation.bootstrap:,} resamples."
    if config.fitted_methods:
        yield f"Fitted methods: up to {fitting.subsets} further subsets, {fitting.retrains} model(s) each."
