"""Which sketches the benchmarks measure: the one place to add a sketch, a size or a peer.

A sketch is named by a label and given by its settings, the keys of `trakflow.config.attribution.Sketch`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models import MODELS
from peers import PEERS

Settings = Mapping[str, Any]

K = 2048

# k_in = k_out of each layer, so that the total of all layers is about K: of 3, 9 and 38 layers.
SIDE = {"mlp": 26, "resnet9": 16, "bert": 7}
# With a second, sparse stage to K the first one may be wider.
WIDE_SIDE = {"mlp": 64, "resnet9": 32, "bert": 16}

# The batch size of what is measured at one only.
ONE_BATCH = 16


@dataclass(frozen=True)
class Measured:
    """A line of the featurize benchmark.

    Attributes:
        label: The column `sketch`.
        title: For figures.
        settings: Of the sketch, by model; a model that is not there is left out. Empty for a peer.
        one_batch: Whether it is measured at batch 16 only, because it is slow.
        gradient_copies: How many times the batch's per-example gradients are in memory at once, at most.
        matrix_columns: How many columns of a projection's matrix are in memory at once, where they are long.
        packages: Those whose versions matter.
        on_a_gpu: Whether it runs on a GPU only.
    """

    label: str
    title: str
    settings: Mapping[str, Settings]
    one_batch: bool = False
    gradient_copies: float = 0
    matrix_columns: int = 0
    packages: tuple[str, ...] = ("trakflow", "torch", "numpy")
    on_a_gpu: bool = False


def _everywhere(**settings: Any) -> dict[str, Settings]:
    return dict.fromkeys(MODELS, settings)


def _by_model(side: Mapping[str, int], **settings: Any) -> dict[str, Settings]:
    return {model: {"side": side[model], **settings} for model in MODELS}


FEATURIZE = (
    Measured("factorized", "factorized", _by_model(SIDE, name="factorized")),
    Measured("factorized_sparse", "factorized, then sparse", _by_model(WIDE_SIDE, name="factorized", k=K)),
    Measured("tensor_sketch", "tensor_sketch", _everywhere(name="tensor_sketch", k=K)),
    Measured("sjlt", "sjlt", _everywhere(name="sjlt", k=K), gradient_copies=2),
    Measured("identity", "identity (no projection)", {"mlp": {"name": "identity"}}, gradient_copies=2),
    Measured("rademacher", "rademacher", _everywhere(name="rademacher", k=K), one_batch=True, gradient_copies=2),
    Measured("gaussian", "gaussian", _everywhere(name="gaussian", k=K), one_batch=True, gradient_copies=2),
    Measured(
        "fast_jl",
        "fast_jl",
        _everywhere(name="fast_jl", k=K),
        one_batch=True,
        gradient_copies=2,
        packages=("trakflow", "torch", "fast_jl"),
        on_a_gpu=True,
    ),
    *(
        Measured(
            peer,
            peer,
            _everywhere(k=K),
            one_batch=True,
            gradient_copies=3,
            matrix_columns=100,
            packages=(peer, "torch"),
        )
        for peer in PEERS
    ),
)


@dataclass(frozen=True)
class Compared:
    """A point of the quality benchmark: a sketch at one size.

    Attributes:
        label: Names its folder and its row.
        family: Points of one family share a colour and a legend entry.
        settings: Of the sketch.
    """

    label: str
    family: str
    settings: Settings


FACTORIZED = "factorized to side x side a layer (side: at the point)"
FACTORIZED_SPARSE = f"factorized to side x side, then sparse to {K:,}"

QUALITY = (
    Compared("gaussian", f"gaussian to {K:,} (dense)", {"name": "gaussian", "k": K}),
    Compared("rademacher", f"rademacher to {K:,} (dense)", {"name": "rademacher", "k": K}),
    Compared("sjlt", f"sjlt to {K:,} (sparse)", {"name": "sjlt", "k": K}),
    Compared("tensor_sketch", f"tensor_sketch to {K:,} (sparse, by FFT)", {"name": "tensor_sketch", "k": K}),
    *(Compared(f"factorized_{side}", FACTORIZED, {"name": "factorized", "side": side}) for side in (8, 16, 26)),
    *(
        Compared(f"factorized_{side}_sparse", FACTORIZED_SPARSE, {"name": "factorized", "side": side, "k": K})
        for side in (32, 48, 96)
    ),
)
