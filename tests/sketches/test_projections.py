import numpy as np
import pytest
import torch
from torch import nn

from trakflow.config.attribution import Sketch
from trakflow.errors import DeviceError
from trakflow.models.mlp import MLP
from trakflow.seeds import derive_seed
from trakflow.sketches import dense
from trakflow.sketches.build import build_sketch
from trakflow.sketches.dense import BLOCK_ENTRIES
from trakflow.sketches.gaussian import GaussianProjection
from trakflow.sketches.identity import Identity
from trakflow.sketches.philox import random_bits
from trakflow.sketches.rademacher import RademacherProjection
from trakflow.sketches.sjlt import SparseProjection
from trakflow.tasks.base import Task
from trakflow.tasks.classification import Classification

SIZES = {"weight": 30, "bias": 10}
PROJECTIONS = {
    "sjlt": lambda sizes, k, seed: SparseProjection(sizes, k, seed, 1),
    "sjlt4": lambda sizes, k, seed: SparseProjection(sizes, k, seed, 4),
    "gaussian": GaussianProjection,
    "rademacher": RademacherProjection,
}
SETTINGS = {
    "sjlt": {"name": "sjlt", "k": 16},
    "sjlt4": {"name": "sjlt", "k": 16, "nonzeros": 4},
    "gaussian": {"name": "gaussian", "k": 16},
    "rademacher": {"name": "rademacher", "k": 16},
}
every_projection = pytest.mark.parametrize("name", PROJECTIONS)


def project(projection, vectors, order=("weight", "bias")):
    """Project rows that hold the entries of all parameters, one parameter tensor after another."""
    parts = dict(zip(SIZES, vectors.split(list(SIZES.values()), dim=1), strict=True))
    features = torch.zeros(len(vectors), projection.k)
    for parameter in order:
        projection.add(features, parameter, parts[parameter].contiguous())
    return features


def matrix(projection):
    return project(projection, torch.eye(40))


def two_vectors():
    random = np.random.default_rng(0)
    x = random.standard_normal(40)
    y = 0.6 * x + 0.8 * random.standard_normal(40)
    return torch.from_numpy(np.stack([x, y])).float()


@every_projection
def test_inner_products_are_right_on_average(name):
    vectors = two_vectors()
    expected = float(vectors[0] @ vectors[1])
    found = []
    for seed in range(600):
        x, y = project(PROJECTIONS[name](SIZES, 16, seed), vectors).double()
        found.append(float(x @ y))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 4 * error
    assert error < 0.05 * abs(expected)


@every_projection
def test_squared_norms_scatter_by_two_over_k(name):
    x = two_vectors()[:1]
    ratios = [
        float((project(PROJECTIONS[name](SIZES, 16, seed), x).double() ** 2).sum() / (x.double() ** 2).sum())
        for seed in range(1500)
    ]
    # Signs leave the terms x_i^2 alone; a normal matrix does not.
    squares = (x.double() ** 2 / (x.double() ** 2).sum()).numpy()
    law = 2 / 16 * (1 if name == "gaussian" else 1 - (squares**2).sum())
    assert np.var(ratios, ddof=1) == pytest.approx(law, rel=0.25)


@every_projection
def test_projecting_is_multiplying_by_the_projected_unit_vectors(name):
    projection = PROJECTIONS[name](SIZES, 16, 3)
    vectors = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    expected = vectors.double() @ matrix(projection).double()
    torch.testing.assert_close(project(projection, vectors).double(), expected, rtol=1e-5, atol=1e-5)


@every_projection
def test_parameters_add_up_in_any_order_and_do_not_know_of_each_other(name):
    vectors = two_vectors()
    projection = PROJECTIONS[name](SIZES, 16, 3)
    whole = project(projection, vectors)
    torch.testing.assert_close(project(projection, vectors, order=("bias", "weight")), whole, rtol=1e-5, atol=1e-6)
    alone = {key: PROJECTIONS[name]({key: size}, 16, 3) for key, size in SIZES.items()}
    parts = [project(alone[key], vectors, order=(key,)) for key in SIZES]
    torch.testing.assert_close(parts[0] + parts[1], whole, rtol=1e-5, atol=1e-6)


@every_projection
def test_a_seed_names_the_matrix(name):
    first, again, other = (matrix(PROJECTIONS[name](SIZES, 16, seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    correlation = float((first * other).sum() / (first.norm() * other.norm()))
    # Products of independent entries: a standard error of 1/sqrt(40 * 16) for dense matrices, 1/sqrt(40) at most.
    assert abs(correlation) < 4 / np.sqrt(40)


@every_projection
def test_two_parameters_of_one_size_get_different_rows(name):
    projection = PROJECTIONS[name]({"weight": 20, "bias": 20}, 16, 0)
    parts = []
    for parameter in ("weight", "bias"):
        features = torch.zeros(20, 16)
        projection.add(features, parameter, torch.eye(20))
        parts.append(features)
    assert abs(float((parts[0] * parts[1]).sum() / (parts[0].norm() * parts[1].norm()))) < 4 / np.sqrt(20)


@pytest.mark.parametrize("nonzeros", [1, 4])
def test_sjlt_adds_each_entry_once_to_each_block_with_a_random_sign(nonzeros):
    found = matrix(SparseProjection(SIZES, 16, 0, nonzeros)).reshape(40, nonzeros, 16 // nonzeros)
    assert ((found != 0).sum(dim=2) == 1).all()
    torch.testing.assert_close(found.abs().sum(dim=2), torch.full((40, nonzeros), nonzeros**-0.5))
    large = SparseProjection({"a": 4000}, 16, 0, nonzeros)
    features = torch.zeros(4000, 16)
    large.add(features, "a", torch.eye(4000))
    used = (features != 0).double().mean(dim=0)
    assert float((used - nonzeros / 16).abs().max()) < 5 * (nonzeros / 16 / 4000) ** 0.5
    assert abs(float(features.sign().sum())) < 5 * (4000 * nonzeros) ** 0.5


def test_rademacher_entries_are_signs_and_gaussian_ones_standard_normal():
    assert set((matrix(RademacherProjection(SIZES, 16, 0)) * 4).unique().tolist()) == {-1.0, 1.0}
    entries = GaussianProjection({"a": 5000}, 16, 0).block("a", 0, 5000, torch.device("cpu")).double().flatten()
    error = len(entries) ** -0.5
    moments = [float((entries**power).mean()) for power in (1, 2, 3, 4)]
    # Variances of the first four powers of a standard normal variable.
    for moment, expected, variance in zip(moments, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(moment - expected) < 5 * error * variance**0.5


@pytest.mark.parametrize("k", [1, 31, 32, 100, 128, 300, 2049])
@pytest.mark.parametrize("start", [0, 7, 2**32 - 5])
def test_signs_are_the_documented_bits_of_philox_in_every_row_and_column(k, start):
    found = RademacherProjection({"a": 2**32}, k, 11).block("a", start, start + 5, torch.device("cpu"))
    bits = random_bits(torch.arange(start, start + 5), k, derive_seed(11, "rademacher", "a"))
    assert torch.equal(found, bits.float() * 2 - 1)


@pytest.mark.parametrize("kind", [GaussianProjection, RademacherProjection])
def test_the_matrix_does_not_depend_on_the_number_of_threads(kind, monkeypatch):
    monkeypatch.setattr(dense, "BLOCK_ENTRIES", 16 * 3)
    gradients = torch.eye(100)
    found = []
    for threads in (1, 2, 3):
        # What the projection asks torch; torch's own number would change how its sums are rounded.
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        features = torch.zeros(100, 16)
        kind({"a": 100}, 16, 0).add(features, "a", gradients)
        found.append(features)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert len(found[0].unique(dim=0)) == 100


@pytest.mark.parametrize("kind", [GaussianProjection, RademacherProjection])
def test_blocks_of_a_large_parameter_join_into_one_matrix_without_repeats(kind):
    k = 4096
    rows = BLOCK_ENTRIES // k
    size = 2 * rows + 5
    projection = kind({"a": size}, k, 0)
    chosen = torch.tensor([0, 1, rows - 1, rows, rows + 1, 2 * rows, size - 1])
    features = torch.zeros(len(chosen), k)
    projection.add(features, "a", torch.eye(size)[chosen])
    products = features @ features.T - torch.eye(len(chosen))
    # Rows of unit length are almost orthogonal unless they are the same row.
    assert float(products.abs().max()) < 6 * (2 / k) ** 0.5
    mixed = torch.randn(1, size, generator=torch.Generator().manual_seed(0))
    whole, parts = torch.zeros(1, k), torch.zeros(1, k)
    projection.add(whole, "a", mixed)
    for start, stop in ((0, rows), (rows, 2 * rows), (2 * rows, size)):
        piece = torch.zeros_like(mixed)
        piece[:, start:stop] = mixed[:, start:stop]
        projection.add(parts, "a", piece)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_identity_keeps_every_entry_in_the_order_of_the_parameters():
    vectors = two_vectors()
    projection = Identity(SIZES)
    assert projection.k == 40
    assert torch.equal(project(projection, vectors, order=("bias", "weight")), vectors)


class Linear(Task):
    """The output is the model's one number, so that its gradient is the input."""

    def output(self, raw, batch):
        return raw.squeeze(-1)

    def loss_gradient(self, raw, batch):
        return torch.ones_like(raw.squeeze(-1))


def built_matrix(settings, checkpoint, seed=0, batch_size=40):
    sketch = build_sketch(Sketch(**settings), nn.Linear(40, 1, bias=False), Linear(), seed, checkpoint, "cpu")
    return torch.cat([sketch({"inputs": rows}).features for rows in torch.eye(40).split(batch_size)])


@every_projection
def test_checkpoints_and_seeds_get_their_own_matrices(name):
    settings = {**SETTINGS[name], "k": 400}
    first, again, checkpoint, seed = (built_matrix(settings, *names) for names in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert torch.equal(first, again)
    for other in (checkpoint, seed):
        assert abs(float((first * other).sum() / (first.norm() * other.norm()))) < 4 / np.sqrt(40)


def test_the_built_sparse_sketch_has_the_nonzeros_that_the_settings_ask_for():
    for name, nonzeros in (("sjlt", 1), ("sjlt4", 4)):
        assert ((built_matrix(SETTINGS[name], 0) != 0).sum(dim=1) == nonzeros).all()


@every_projection
def test_features_do_not_depend_on_the_batch_size(name):
    torch.manual_seed(0)
    model = MLP(12, [10, 6], 4)
    batch = {"inputs": torch.randn(64, 12), "labels": torch.randint(0, 4, (64,))}
    sketch = build_sketch(Sketch(**SETTINGS[name]), model, Classification(), 0, 2, "cpu")
    found = []
    for size in (64, 7, 1):
        parts = [
            sketch({key: value[start : start + size] for key, value in batch.items()}) for start in range(0, 64, size)
        ]
        found.append([torch.cat(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)])
    for other in found[1:]:
        for left, right in zip(found[0], other, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def test_fast_jl_without_a_gpu_says_which_sketches_work_here():
    with pytest.raises(DeviceError, match=r"runtime\.device is cpu.*sketch=rademacher.*sketch=sjlt"):
        build_sketch(Sketch(name="fast_jl", k=512), nn.Linear(4, 1), Linear(), 0, 0, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@every_projection
def test_a_gpu_multiplies_by_the_same_matrix(name):
    sketch = build_sketch(Sketch(**SETTINGS[name]), nn.Linear(40, 1, bias=False).cuda(), Linear(), 0, 0, "cuda")
    found = sketch({"inputs": torch.eye(40, device="cuda")}).features
    torch.testing.assert_close(found.cpu(), built_matrix(SETTINGS[name], 0))
