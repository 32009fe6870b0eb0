"""The variants that the paper's figures compare: the experiment with some settings changed, in folders below it."""

from collections.abc import Iterator
from dataclasses import dataclass

from trakflow.config.evaluation import Paper
from trakflow.config.schema import Config
from trakflow.layout import TRAK

FACTORIZED_SIDE = 32
# Where the self-LDS cannot be asked, or variants of the checkpoints are to be compared at one ridge.
ONE_RIDGE = "solver.ridge=1.0"


@dataclass(frozen=True)
class Variant:
    """An experiment with some settings changed.

    Attributes:
        name: Of its folder.
        overrides: Hydra overrides.
        checkpoints: How many it has.
        own_checkpoints: Whether it trains them; else they are the experiment's.
        epochs: After which of each run the weights are a checkpoint.
        fraction: Part of the data that they are trained on.
        ridge_curve: Whether its LDS is wanted at each of `paper.ridges`.
    """

    name: str
    overrides: tuple[str, ...]
    checkpoints: int
    own_checkpoints: bool
    epochs: tuple[int, ...]
    fraction: float
    ridge_curve: bool

    def training_passes(self, count: int) -> float:
        """Return how many passes over the whole training set it takes to train the first checkpoints."""
        kept = len(self.epochs)
        runs, rest = divmod(count, kept)
        return self.fraction * (runs * self.epochs[-1] + (self.epochs[rest - 1] if rest else 0))


def variants(config: Config) -> list[Variant]:
    """List the variants of an experiment; none without settings for the paper's figures."""
    if config.paper is None:
        return []
    return [*_sketches(config, config.paper), *_cheap(config, config.paper), *_ablated(config)]


def sketch_variants(config: Config) -> dict[tuple[str, int], str]:
    """Return the variant's name of each sketch and k."""
    sketches = {} if config.paper is None else config.paper.sketches
    return {(sketch, k): f"{sketch}_{k}" for sketch, sizes in sketches.items() for k in sizes}


def is_largest(config: Config, sketch: str, k: int) -> bool:
    """Return whether no larger k of a sketch is among the variants: the one whose LDS is drawn against the ridge."""
    return k == max(size for other, size in sketch_variants(config) if other == sketch)


def cheap_variants(config: Config) -> dict[str, str]:
    """Return what the checkpoints are in each variant of the figure of cheap ones, by the variant's name."""
    if config.paper is None:
        return {}
    whole, third = config.training.epochs, _third(config)
    found = {"whole_runs": f"runs of {whole} epochs", "short_runs": f"runs of {third} epochs"}
    if not config.paper.epochs:
        return found
    epochs = ", ".join(map(str, config.paper.epochs))
    return found | {
        "epochs_of_one_run": f"epochs {epochs} of one run",
        "epochs_of_all_runs": f"epochs {epochs} of each run",
    }


def ablated_variants(config: Config) -> dict[str, str]:
    """Return what is left out in each variant of the ablation table, by the variant's name."""
    if config.paper is None:
        return {}
    return {
        "unweighted": "rows of the Gram matrix not weighted by W",
        "published_formula": f"neither W nor ridge, as published (k = {_published_k(config)})",
        "everything": "checkpoints on everything, not on parts",
    }


def _sketches(config: Config, paper: Paper) -> Iterator[Variant]:
    for (sketch, k), name in sketch_variants(config).items():
        side = (config.sketch.side or FACTORIZED_SIDE) if sketch == "factorized" else "null"
        nonzeros = (config.sketch.nonzeros or 1) if sketch == "sjlt" else "null"
        # A value for each, so that nothing of another sketch is left.
        settings = {"name": sketch, "k": k, "side": side, "nonzeros": nonzeros}
        overrides = (f"sketch.{key}={value}" for key, value in settings.items())
        yield _variant(config, name, *overrides, ridge_curve=is_largest(config, sketch, k))


def _cheap(config: Config, paper: Paper) -> Iterator[Variant]:
    total, third = config.checkpoints.total, _third(config)
    yield _variant(config, "whole_runs", ONE_RIDGE)
    yield _variant(config, "short_runs", f"training.epochs={third}", ONE_RIDGE, epochs=(third,))
    if paper.epochs:
        kept, size = tuple(paper.epochs), len(paper.epochs)
        for name, runs in (("epochs_of_one_run", 1), ("epochs_of_all_runs", total)):
            own = (f"checkpoints.epochs=[{','.join(map(str, kept))}]", f"checkpoints.count={size * runs}", ONE_RIDGE)
            yield _variant(config, name, *own, epochs=kept, checkpoints=size * runs)


def _ablated(config: Config) -> Iterator[Variant]:
    yield _variant(config, "unweighted", "solver.weights=off")
    published = ("solver.weights=off", "solver.ridge=0", f"sketch.k={_published_k(config)}")
    yield _variant(config, "published_formula", *published)
    everything = "checkpoints.trained_on=everything"
    yield _variant(config, "everything", everything, epochs=(config.training.epochs,), fraction=1.0)


def _variant(
    config: Config,
    name: str,
    *overrides: str,
    epochs: tuple[int, ...] | None = None,
    checkpoints: int | None = None,
    fraction: float | None = None,
    ridge_curve: bool = False,
) -> Variant:
    own = config.checkpoints.fraction if config.checkpoints.trained_on == "halves" else 1.0
    # A variant has no variants and no other methods: neither would stand what is varied, such as fewer epochs or a
    # larger k.
    alone = [f"methods=[{TRAK}]", "++paper.epochs=[]", *(() if ridge_curve else ("++paper.ridges=null",))]
    return Variant(
        name=name,
        overrides=(*overrides, *alone),
        checkpoints=checkpoints or config.checkpoints.total,
        own_checkpoints=epochs is not None,
        epochs=epochs or (config.training.epochs,),
        fraction=own if fraction is None else fraction,
        ridge_curve=ridge_curve,
    )


def _third(config: Config) -> int:
    return max(1, config.training.epochs // 3)


def _published_k(config: Config) -> int:
    # Without a ridge the Gram matrix is singular unless k is smaller than n.
    return min(config.sketch.k or config.data.train_size, config.data.train_size // 4)
