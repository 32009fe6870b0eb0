"""What every sketch promises: unbiased, as exact as its k, the same in any layout, and random in all its parts."""

import itertools

import numpy as np
import oracle
import pytest
import torch
import zoo
from scipy import stats
from torch import nn

from sketch_laws import (
    assert_columns_independent,
    assert_equal_rows,
    assert_unbiased,
    correlation,
    relative_variances,
)
from trakflow.config.attribution import Sketch
from trakflow.config.shards import shard_range
from trakflow.data.digits import train
from trakflow.models.mlp import MLP
from trakflow.seeds import derive_seed, generator
from trakflow.sketches.batches import sketch_all
from trakflow.sketches.build import build_sketch
from trakflow.sketches.factorized import make_plan
from trakflow.sketches.gaussian import GaussianProjection
from trakflow.sketches.gradients import GradientSketch
from trakflow.sketches.identity import Identity
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.sketches.rademacher import RademacherProjection
from trakflow.sketches.sjlt import SparseProjection
from trakflow.tasks.base import Task
from trakflow.tasks.classification import Classification

PROJECTIONS = {
    "sjlt": lambda sizes, k, seed: SparseProjection(sizes, k, seed, 1),
    "sjlt4": lambda sizes, k, seed: SparseProjection(sizes, k, seed, 4),
    "gaussian": GaussianProjection,
    "rademacher": RademacherProjection,
    "identity": lambda sizes, k, seed: Identity(sizes),
}
SETTINGS = {
    "tensor_sketch": {"name": "tensor_sketch"},
    "factorized": {"name": "factorized", "side": 8, "k": None},
    "factorized in two stages": {"name": "factorized", "side": 40},
    "sjlt": {"name": "sjlt"},
    "sjlt4": {"name": "sjlt", "nonzeros": 4},
    "gaussian": {"name": "gaussian"},
    "rademacher": {"name": "rademacher"},
}
every_projection = pytest.mark.parametrize("name", PROJECTIONS)
HOOKED = [name for name in SETTINGS if name not in PROJECTIONS]
every_projection_at_random = pytest.mark.parametrize("name", [name for name in SETTINGS if name in PROJECTIONS])
every_hooked_sketch = pytest.mark.parametrize("name", HOOKED)
every_random_sketch = pytest.mark.parametrize("name", SETTINGS)


def project(projection, sizes, vectors):
    """Project rows that hold the entries of all parameters, one parameter tensor after another."""
    features = torch.zeros(len(vectors), projection.k)
    for parameter, part in zip(sizes, vectors.float().split(list(sizes.values()), dim=1), strict=True):
        projection.add(features, parameter, part.contiguous())
    return features


def vectors_of_all_kinds(rows=6, columns=8):
    """Two correlated normal vectors, two sparse ones, two of rank one as (rows x columns) matrices, float64."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    x = normal(rows * columns)
    sparse = torch.zeros(2, rows * columns, dtype=torch.float64)
    sparse[0, 3], sparse[1, 3], sparse[1, 40] = 2.0, -1.0, 0.5
    shared = normal(columns)
    outer = torch.stack([torch.outer(normal(rows), shared + 0.3 * normal(columns)).flatten() for _ in range(2)])
    return torch.cat([torch.stack([x, 0.6 * x + 0.8 * normal(rows * columns)]), sparse, outer])


@every_projection
def test_inner_products_are_right_on_average_for_dense_sparse_and_rank_one_vectors(name):
    vectors, sizes = vectors_of_all_kinds(), {"weight": 40, "bias": 8}
    assert_unbiased(lambda seed: project(PROJECTIONS[name](sizes, 16, seed), sizes, vectors), vectors, seeds=400)


@pytest.fixture(scope="module")
def digits():
    """An MLP of 6,570 parameters after a few steps of training, and a hundred images."""
    torch.manual_seed(0)
    arrays = {key: torch.from_numpy(value) for key, value in train(400).arrays.items()}
    model = MLP(64, [64, 32], 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(arrays["inputs"]), arrays["labels"]).backward()
        optimizer.step()
    return model, {key: value[:100] for key, value in arrays.items()}


def sizes_of(model):
    return {name: parameter.numel() for name, parameter in differentiated_parameters(model).items()}


# Mean squared errors of eight matrices, each over 200 pairs, are bounded with 99.9 % confidence by Student's t.
SEEDS, BOUND = 8, float(stats.t.ppf(0.999, 7)) / 8**0.5


def hooked(name, model, task, seed, k=16):
    return build_sketch(Sketch(**{"k": k, **SETTINGS[name]}), model, task, seed, 0, "cpu")


@every_hooked_sketch
@pytest.mark.parametrize("module", ["linear, two position dimensions", "conv2d", "embedding", "repeated and tied"])
def test_inner_products_are_right_on_average_for_gradients_of_modules(name, module):
    model, inputs = zoo.make(module, 4)
    found = oracle.gradients(model, inputs)
    gradients = torch.from_numpy(np.concatenate([value.reshape(4, -1) for value in found.values()], axis=1))

    def features_of(seed):
        return hooked(name, model, oracle.Sum(), seed)({"inputs": inputs}).features

    assert_unbiased(features_of, gradients, seeds=150)


def test_factorized_gradients_of_rank_one_vary_by_the_law_of_two_projections():
    torch.manual_seed(0)
    outer, inner = torch.randn(40, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    squares = []
    for seed in range(3000):
        plan = make_plan({"weight": torch.Size([40, 50])}, 8, seed, torch.float64, torch.device("cpu"))
        block = plan.blocks["weight"]
        # That a gradient's features are P_out^T G P_in is tested in test_rules.
        squares.append(float((block.outer.T @ outer).square().sum() * (block.inner.T @ inner).square().sum()))
    squares = np.array(squares) / float(outer.square().sum() * inner.square().sum())
    assert squares.mean() == pytest.approx(1, abs=4 * squares.std() / 3000**0.5)
    # (1 + 2/k_in)(1 + 2/k_out) - 1 with eight features a side; its own standard error is about a fifteenth of it.
    assert squares.var(ddof=1) == pytest.approx(1.25**2 - 1, rel=0.25)


@every_projection_at_random
def test_real_gradients_are_distorted_as_the_johnson_lindenstrauss_law_says(name, digits):
    model, arrays = digits
    sizes = sizes_of(model)
    assert sum(sizes.values()) == 6570
    gradients = GradientSketch(model, Classification(), Identity(sizes), differentiated_parameters(model))(
        arrays
    ).features
    every = torch.combinations(torch.arange(100))
    pairs = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:200]].T
    found = relative_variances(
        lambda seed: project(PROJECTIONS[name](sizes, 2048, seed), sizes, gradients), gradients.double(), pairs, SEEDS
    )
    margin = BOUND * found.std(ddof=1)
    assert margin < 0.6  # so that half the features in use, or entries repeated, would show
    assert found.mean() - margin < 1
    # Signs leave the terms x_i^2 y_i^2 alone, which takes a little of the variance away.
    assert found.mean() + margin > 0.9


def test_tensor_sketch_distorts_real_gradients_no_more_than_its_law(digits):
    model, arrays = digits
    gradients = GradientSketch(model, Classification(), Identity(sizes_of(model)), differentiated_parameters(model))(
        arrays
    ).features
    every = torch.combinations(torch.arange(100))
    pairs = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:200]].T
    found = relative_variances(
        lambda seed: hooked("tensor_sketch", model, Classification(), seed, k=2048)(arrays).features,
        gradients.double(),
        pairs,
        SEEDS,
    )
    margin = BOUND * found.std(ddof=1)
    # In general its bound is four times that of a transform with independent entries (Pham & Pagh 2013); as no two
    # entries of a small layer's row meet, nor many of different rows, gradients of several layers do better than that.
    assert margin < 0.6
    assert found.mean() < 0.8
    assert found.mean() + margin > 0.5


def assert_same_in_every_layout(make_sketch, arrays):
    """Features of all rows, each shard by a sketch of its own as by a job of its own."""
    total = len(arrays["labels"])
    found = []
    for batch_size, shards in ((64, 1), (7, 1), (1, 1), (7, 3), (64, 5), (64, total)):
        parts = []
        for shard in range(shards):
            start, stop = shard_range(total, shards, shard)
            rows = {key: value[start:stop] for key, value in arrays.items()}
            parts.append(sketch_all(make_sketch(), rows, batch_size, start, "test").features)
        found.append(torch.cat(parts))
    for other in found[1:]:
        assert_equal_rows(other, found[0])


@every_projection
def test_features_are_the_same_in_any_batch_and_shard(name, digits):
    model, arrays = digits
    sizes = sizes_of(model)
    first = {key: value[:66] for key, value in arrays.items()}
    parameters = differentiated_parameters(model)
    assert_same_in_every_layout(
        lambda: GradientSketch(model, Classification(), PROJECTIONS[name](sizes, 64, 3), parameters), first
    )


@every_hooked_sketch
def test_hooked_features_are_the_same_in_any_batch_and_shard(name, digits):
    model, arrays = digits
    first = {key: value[:66] for key, value in arrays.items()}
    assert_same_in_every_layout(lambda: hooked(name, model, Classification(), 3, k=64), first)


class Output(Task):
    """The output is the model's one number."""

    def output(self, raw, batch):
        return raw.squeeze(-1)

    def loss_gradient(self, raw, batch):
        return torch.ones_like(raw.squeeze(-1))


class TwoLayers(nn.Module):
    """A linear function of the inputs by two parameters, one for each half of them: the gradient is the input."""

    def __init__(self, inputs):
        super().__init__()
        self.first = nn.Linear(inputs // 2, 1, bias=False)
        self.second = nn.Linear(inputs // 2, 1, bias=False)

    def forward(self, inputs):
        left, right = inputs.chunk(2, dim=1)
        return self.first(left) + self.second(right)


def matrix_of(name, checkpoint, size=2000, k=32, seed=0):
    """The whole matrix of a sketch as the workflow builds it (size x k): what unit vectors are sketched to."""
    settings = Sketch(**{"k": k, **SETTINGS[name]})
    sketch = build_sketch(settings, TwoLayers(size), Output(), seed, checkpoint, "cpu")
    return sketch({"inputs": torch.eye(size)}).features


@every_random_sketch
def test_checkpoints_parameters_and_seeds_get_independent_matrices(name):
    size, k = 2000, 32
    matrices = [matrix_of(name, checkpoint, size, k) for checkpoint in range(4)]
    matrices.append(matrix_of(name, 0, size, k, seed=1))
    # A row of a layer goes to consecutive features: two whole rows may go to the same ones, with signs of their own.
    apart = 1 if name == "tensor_sketch" else k
    for left, right in itertools.combinations(matrices, 2):
        assert correlation(left, right) < 5 / (size * apart) ** 0.5
    for matrix in matrices:
        first, second = matrix.chunk(2)
        assert correlation(first, second) < 5 / (size // 2 * apart) ** 0.5
    # The same entries again, to see that the bound is one that equal matrices exceed.
    assert correlation(matrices[0], matrix_of(name, 0, size, k)) == pytest.approx(1)


def seeds_in_use():
    """Seeds of all matrices, models and subsets of ten experiments with 50 checkpoints, with k up to 65,536."""
    names = [f"layers.{layer}.{kind}" for layer in range(12) for kind in ("weight", "bias")]
    for seed in range(10):
        yield derive_seed(seed, "bootstrap")
        for checkpoint in range(50):
            trained = derive_seed(seed, "checkpoint", checkpoint)
            yield trained
            yield from (derive_seed(trained, role) for role in ("init", "dropout"))
            yield from (derive_seed(trained, "order", epoch) for epoch in range(30))
            sketch = derive_seed(seed, "sketch", checkpoint)
            yield sketch
            for name in names:
                yield from (derive_seed(sketch, role, name) for role in ("sjlt", "rademacher"))
                # Blocks of 128 rows, as at k = 65,536.
                yield from (derive_seed(sketch, "gaussian", name, start) for start in range(0, 1280, 128))
        for index in range(500):
            yield derive_seed(seed, "retrain", 0, index)
            yield from (derive_seed(seed, "subset", role, index, 0) for role in ("checkpoint", "evaluation"))


def test_no_two_uses_share_a_seed_or_a_stream():
    seeds = list(seeds_in_use())
    assert len(set(seeds)) == len(seeds) > 150_000
    first = [int(generator(0, "sketch", index).integers(2**63)) for index in range(5000)]
    assert len(set(first)) == 5000


# Enough entries for every feature to get some: at k = 65,536 a dense matrix needs few, a sparse one twenty a feature.
ENTRIES = {"sjlt": 1_400_000, "sjlt4": 350_000, "gaussian": 128, "rademacher": 128}


def test_all_of_65536_features_of_tensor_sketch_are_in_use_and_none_repeats_another():
    torch.manual_seed(0)
    model, vectors = nn.Linear(1400, 1000, bias=False), torch.randn(12, 1400)
    features = hooked("tensor_sketch", model, oracle.Sum(), 0, k=65_536)({"inputs": vectors}).features
    assert bool((features != 0).any(dim=0).all())


@every_projection_at_random
def test_all_of_65536_features_are_in_use_and_none_repeats_another(name):
    sizes = {"weight": ENTRIES[name]}
    vectors = torch.randn(12, ENTRIES[name], generator=torch.Generator().manual_seed(0))
    features = project(PROJECTIONS[name](sizes, 65_536, 0), sizes, vectors)
    assert bool((features != 0).any(dim=0).all())
    assert_columns_independent(features)
