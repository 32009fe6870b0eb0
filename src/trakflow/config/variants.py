"""The variants that the paper's figures compare: the experiment with some settings changed, in folders below it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trakflow.config.ablation import check_ablation
from trakflow.config.evaluation import Paper
from trakflow.config.schema import Config
from trakflow.errors import ConfigError
from trakflow.layout import TRAK, OwnFrom

FACTORIZED_SIDE = 32
# Where the self-LDS cannot be asked, or variants of the checkpoints are to be compared at one ridge.
ONE_RIDGE = ("solver.ridge=1.0", "solver.ridge_unit=relative")


@dataclass(frozen=True)
class Variant:
    """An experiment with some settings changed.

    Attributes:
        name: Of its folder.
        overrides: Hydra overrides.
        checkpoints: How many it has.
        own_from: From which stage on it does its own work; what comes before is the experiment's.
        epochs: After which of each run the weights are a checkpoint.
        fraction: Part of the data that they are trained on.
        ridge_curve: Whether its LDS is wanted at each of `paper.ridges`.
        timed: Whether its seconds are wanted: what it does is done `runtime.repeats` times.
    """

    name: str
    overrides: tuple[str, ...]
    checkpoints: int
    own_from: OwnFrom
    epochs: tuple[int, ...]
    fraction: float
    ridge_curve: bool
    timed: bool

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
    return {(sketch, k): _sketch_name(sketch, k) for sketch, sizes in sketches.items() for k in sizes}


def sized_variants(config: Config) -> dict[int, str]:
    """Return the variant's name of each further k of TRAK in the figure of LDS against compute."""
    sizes = [] if config.paper is None else config.paper.trak_k
    return {k: _sketch_name(config.sketch.name, k) for k in sizes}


def name_of_size(k: int) -> str:
    """Return what TRAK with a further k is called where it stands beside other methods."""
    return f"{TRAK} (k = {k})"


def _sketch_name(sketch: str, k: int) -> str:
    return f"{sketch}_{k}"


def is_largest(config: Config, sketch: str, k: int) -> bool:
    """Return whether no larger k of a sketch is among the variants: the one whose LDS is drawn against the ridge."""
    return k == max(size for other, size in sketch_variants(config) if other == sketch)


def cheap_variants(config: Config) -> dict[str, str]:
    """Return what the checkpoints are in each variant of the figure of cheap ones, by the variant's name."""
    if config.paper is None:
        return {}
    whole, third = config.training.epochs, _third(config)
    found = {"whole_runs": _runs(whole), "short_runs": _runs(third)}
    if not config.paper.epochs:
        return found
    epochs = ", ".join(map(str, config.paper.epochs))
    return found | {
        name: f"epochs {epochs} of {_which_runs(config, runs)}"
        for name, runs in _epoch_runs(config, config.paper).items()
    }


def _epoch_runs(config: Config, paper: Paper) -> dict[str, int]:
    total = config.checkpoints.total
    names = {total: "epochs_of_all_runs", 1: "epochs_of_one_run"}
    return {names.get(runs, f"epochs_of_{runs}_runs"): runs for runs in paper.epoch_runs or sorted({1, total})}


def _which_runs(config: Config, runs: int) -> str:
    return "one run" if runs == 1 else "each run" if runs == config.checkpoints.total else f"each of {runs} runs"


def _runs(epochs: int) -> str:
    return f"runs of {epochs} epoch" + "s" * (epochs > 1)


def ablated_variants(config: Config) -> dict[str, str]:
    """Return what is other in each variant of the ablation table, by the variant's name.

    What has a relative ridge of 1 is to be compared with the method itself at that ridge, and not at the chosen one.
    """
    if config.paper is None or not config.paper.ablation:
        return {}
    # Without a projection k is the number of parameters, which is seldom smaller than n.
    published = {} if config.sketch.name == "identity" else {"published_formula": _published(config)}
    return {
        "unweighted": "rows of the Gram matrix not weighted by W",
        **published,
        "whole_runs": "TRAK with a relative ridge of 1",
        "everything": "checkpoints on everything, not on parts (ridge 1)",
    }


def check_paper_figures(config: Config, composed: Callable[[Sequence[str]], Config]) -> None:
    """Refuse figures that could not be drawn in the end, before any job runs.

    Args:
        config: The experiment.
        composed: Composes the experiment with further overrides.

    Raises:
        ConfigError: The ablation table does not fit the memory; `checkpoints.epochs` is set; `paper.trak_k` holds the
            experiment's own k; or a variant cannot be: names it, what it changes and why.
    """
    if config.paper is None:
        return
    if config.checkpoints.epochs is not None:
        raise ConfigError(
            f"checkpoints.epochs={config.checkpoints.epochs}, which the figure of cheap checkpoints varies by itself; "
            "set it to null, and paper.epochs to those that the figure shows."
        )
    if config.sketch.k in config.paper.trak_k:
        raise ConfigError(
            f"paper.trak_k={config.paper.trak_k} holds sketch.k={config.sketch.k}, which TRAK itself has in the figure "
            "of LDS against compute; leave it out."
        )
    # Where k is null it is known when there are features.
    if config.paper.ablation and config.sketch.k is not None:
        data = config.data
        check_ablation(
            config.checkpoints.total, data.train_size, data.target_count, config.sketch.k, config.runtime.memory_mb
        )
    for variant in variants(config):
        try:
            composed(variant.overrides)
        except ConfigError as error:
            raise ConfigError(
                f"paper_figures runs the variant {variant.name} of this experiment ({', '.join(variant.overrides)}), "
                f"which cannot be; change the section paper, or what the variant builds on.\n{error}"
            ) from error


def _sketches(config: Config, paper: Paper) -> Iterator[Variant]:
    shown = sketch_variants(config)
    sized = {(config.sketch.name, k): name for k, name in sized_variants(config).items()}
    for (sketch, k), name in (shown | sized).items():
        side = (config.sketch.side or FACTORIZED_SIDE) if sketch == "factorized" else None
        nonzeros = (config.sketch.nonzeros or 1) if sketch == "sjlt" else None
        # A value for each, so that nothing of another sketch is left.
        settings = {"name": sketch, "k": k, "side": side, "nonzeros": nonzeros}
        overrides = (f"sketch.{key}={'null' if value is None else value}" for key, value in settings.items())
        same = all(getattr(config.sketch, key) == value for key, value in settings.items())
        yield _variant(
            config,
            name,
            *overrides,
            ridge_curve=(sketch, k) in shown and is_largest(config, sketch, k),
            own_from="scores" if same else "features",
            timed=(sketch, k) in sized,
        )


def _cheap(config: Config, paper: Paper) -> Iterator[Variant]:
    third = _third(config)
    yield _variant(config, "whole_runs", *ONE_RIDGE, own_from="scores")
    yield _variant(config, "short_runs", f"training.epochs={third}", *ONE_RIDGE, epochs=(third,))
    if paper.epochs:
        kept, size = tuple(paper.epochs), len(paper.epochs)
        for name, runs in _epoch_runs(config, paper).items():
            own = (f"checkpoints.epochs=[{','.join(map(str, kept))}]", f"checkpoints.count={size * runs}", *ONE_RIDGE)
            yield _variant(config, name, *own, epochs=kept, checkpoints=size * runs)


def _ablated(config: Config) -> Iterator[Variant]:
    named = ablated_variants(config)
    if "unweighted" in named:
        weighted = config.solver.weights != "off"
        yield _variant(config, "unweighted", "solver.weights=off", own_from="kernels" if weighted else "scores")
    if "published_formula" in named:
        published = ("solver.weights=off", "solver.ridge=0", f"sketch.k={published_k(config)}")
        yield _variant(config, "published_formula", *published)
    if "everything" in named:
        # Without parts the self-LDS cannot be asked, and auto is 1.
        changed = ("checkpoints.trained_on=everything", *(() if config.solver.ridge == "auto" else ONE_RIDGE))
        yield _variant(config, "everything", *changed, epochs=(config.training.epochs,), fraction=1.0)


def _variant(
    config: Config,
    name: str,
    *overrides: str,
    epochs: tuple[int, ...] | None = None,
    checkpoints: int | None = None,
    fraction: float | None = None,
    ridge_curve: bool = False,
    own_from: OwnFrom = "features",
    timed: bool = False,
) -> Variant:
    own = config.checkpoints.fraction if config.checkpoints.trained_on == "halves" else 1.0
    # A variant has no variants and no other methods: neither would stand what is varied, such as fewer epochs or a
    # larger k.
    cheap = ("++paper.epochs=[]", "++paper.epoch_runs=null")
    alone = [f"methods=[{TRAK}]", *cheap, *(() if ridge_curve else ("++paper.ridges=null",))]
    return Variant(
        name=name,
        overrides=(*overrides, *alone),
        checkpoints=checkpoints or config.checkpoints.total,
        own_from=own_from if epochs is None else "checkpoints",
        epochs=epochs or (config.training.epochs,),
        fraction=own if fraction is None else fraction,
        ridge_curve=ridge_curve,
        timed=timed,
    )


def _third(config: Config) -> int:
    return max(1, config.training.epochs // 3)


def _published(config: Config) -> str:
    return f"neither W nor ridge, as published (k = {published_k(config)})"


def published_k(config: Config) -> int:
    """Return how many features the ablation table's published formula has."""
    # Without a ridge the Gram matrix is singular unless k is smaller than n.
    most = min(config.sketch.k or config.data.train_size, config.data.train_size // 4)
    parts = config.sketch.nonzeros or 1 if config.sketch.name == "sjlt" else 1
    return max(parts, most - most % parts)
