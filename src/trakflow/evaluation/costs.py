"""Which jobs a method's scores cost: by the logs that hold their seconds, for the rules and for the stage alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trakflow.config.schema import Config
from trakflow.config.shards import batch_count, batch_indices
from trakflow.errors import StoreError
from trakflow.layout import FITTING, TRAK

# The whole of a job; a job that serves several numbers of checkpoints names a piece for each.
WHOLE = "job"


@dataclass(frozen=True)
class Work:
    """A job, or a piece of one.

    Attributes:
        log: Name of its log.
        piece: Which of the times in it.
        share: The part of it that is needed.
    """

    log: str
    piece: str = WHOLE
    share: float = 1.0


def piece_of(count: int) -> str:
    """Name the piece of a job that makes the scores for a number of checkpoints or subsets."""
    return f"count {count}"


def piece_of_checkpoint(checkpoint: int) -> str:
    """Name the piece of a variant's job that featurizes by one checkpoint and factors its Gram matrix."""
    return f"checkpoint {checkpoint}"


def training_work(config: Config, method: str, count: int) -> list[Work]:
    """List the training of the checkpoints that a method attributes by; none for a method that reads none."""
    if method != TRAK and not config.method[method].reads_checkpoints:
        return []
    return [Work(f"train_checkpoint/{checkpoint}") for checkpoint in range(count)]


def method_work(config: Config, method: str, count: int) -> list[Work]:
    """List what a method does beside that, for the first `count` checkpoints or subsets.

    Retrained models are part of the method that is fitted on them. They are trained in batches, of which a part is
    counted where fewer subsets are needed.
    """
    if method == TRAK:
        return list(_trak(config, count))
    reads = config.method[method].reads
    scores = Work(f"attribute_{method}", piece_of(count))
    if reads == "checkpoint":
        return [*(Work(f"attribute_checkpoint/{method}.{checkpoint}") for checkpoint in range(count)), scores]
    if reads == "checkpoints":
        return [Work(f"attribute_checkpoints/{method}.{count}"), scores]
    if reads == "retrained":
        return [*_retraining(config, count), scores]
    # Scores from nothing, or made elsewhere: what they cost is not known here.
    return []


def _trak(config: Config, count: int) -> Iterator[Work]:
    for checkpoint in range(count):
        for shard in range(config.shards):
            yield Work(f"featurize/{checkpoint}.{shard}")
        yield Work(f"featurize_targets/{checkpoint}")
        yield Work(f"finalize/{checkpoint}")
    if count < config.checkpoints.total:
        yield Work("score_partial", piece_of(count))
        return
    yield Work("choose_ridge")
    yield Work("score")


def variant_work(variant: str, count: int) -> list[Work]:
    """List what a variant of TRAK does for the first `count` checkpoints, all in one job."""
    log = f"variant/{variant}"
    return [*(Work(log, piece_of_checkpoint(number)) for number in range(count)), Work(log, piece_of(count))]


def _retraining(config: Config, count: int) -> Iterator[Work]:
    subsets, size = config.fitting.subsets, config.evaluation.models_per_batch
    for retrain in range(config.fitting.retrains):
        for batch in range(batch_count(subsets, size)):
            held = batch_indices(subsets, size, batch)
            needed = sum(1 for index in held if index < count)
            if needed:
                for rule in ("retrain", "retrained_outputs"):
                    yield Work(f"{rule}/{FITTING}.{retrain}.{batch}", share=needed / len(held))


@dataclass(frozen=True)
class Cost:
    """Seconds of some work: by the median of each job's repeats, and by the fastest and slowest of them."""

    seconds: float
    low: float
    high: float
    repeats: int


# The seconds of each piece of a job, one for each time that it was done, by the name of its log.
SecondsOf = Callable[[str], Mapping[str, Sequence[float]]]


def cost_of(work: Sequence[Work], seconds_of: SecondsOf) -> Cost:
    """Add up the seconds of jobs.

    Args:
        work: Which jobs.
        seconds_of: The seconds of each piece of a job, by its log's name.

    Returns:
        The sum, and the fewest repeats of any of the jobs.

    Raises:
        StoreError: A log does not hold the piece.
    """
    total = low = high = 0.0
    repeats = []
    for item in work:
        pieces = seconds_of(item.log)
        if item.piece not in pieces:
            raise StoreError(
                f"The log of job {item.log} says nothing of the seconds of its {item.piece}. Delete it and run again."
            )
        found = pieces[item.piece]
        total += item.share * float(np.median(found))
        low += item.share * min(found)
        high += item.share * max(found)
        repeats.append(len(found))
    return Cost(total, low, high, min(repeats, default=0))
