import functools
import importlib.util

import numpy as np
import pytest
import torch

from trakflow.sketches import fast_jl
from trakflow.sketches.fast_jl import FastJLProjection

needs_fast_jl = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("fast_jl") is None,
    reason="needs an NVIDIA GPU and the package fast_jl",
)


@functools.cache
def all_signs(size, seed):
    return torch.from_numpy(np.random.default_rng([seed, size]).integers(0, 2, (size, 1024)) * 2 - 1).double()


def column_signs(size, k, seed):
    """A matrix whose column j depends on (seed, size, j) alone, as the kernels' does."""
    return all_signs(size, seed)[:, :k]


class DenseKernels:
    """Stands for the CUDA code, which cannot run here: its interface, its restrictions, its float16 products."""

    def __init__(self):
        self.calls = []

    def _project(self, batch, gradients, k, seed, tiles):
        assert gradients.is_contiguous()
        assert gradients.dim() == 2
        assert gradients.dtype in (torch.float16, torch.float32)
        # The C++ computes (B - 1) / batch and (F - 1) / tiles in unsigned integers.
        assert gradients.shape[0] > 0
        assert gradients.shape[1] > 0
        assert gradients.numel() < 2**32
        assert k % 512 == 0
        assert 0 <= seed < 2**32
        assert len(gradients) % batch == 0
        self.calls.append((batch, tuple(gradients.shape), k, seed, tiles))
        return (gradients.half().double() @ column_signs(gradients.shape[1], k, seed)).float()

    def project_rademacher_8(self, *arguments):
        return self._project(8, *arguments)

    def project_rademacher_16(self, *arguments):
        return self._project(16, *arguments)

    def project_rademacher_32(self, *arguments):
        return self._project(32, *arguments)


def make(sizes, k, seed=0):
    kernels = DenseKernels()
    return FastJLProjection(sizes, k, seed, "cuda", kernels), kernels


def project(projection, name, gradients):
    features = torch.ones(len(gradients), projection.k, device=gradients.device)
    projection.add(features, name, gradients)
    return features - 1


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 16, 17, 32, 33, 75])
@pytest.mark.parametrize("k", [1, 100, 512, 513])
def test_any_batch_and_k_give_the_product_with_the_first_k_columns(batch, k):
    gradients = torch.randn(batch, 30, generator=torch.Generator().manual_seed(0))
    projection, kernels = make({"a": 30}, k)
    found = project(projection, "a", gradients)
    ((_, _, padded_k, seed, tiles),) = {(0, 0, *call[2:]) for call in kernels.calls}
    assert padded_k == (512 if k <= 512 else 1024)
    assert tiles == 128
    expected = gradients.double() @ column_signs(30, k, seed) * k**-0.5
    scale = gradients.double().abs().sum(dim=1, keepdim=True) * k**-0.5
    assert float(((found.double() - expected).abs() / scale).max()) < 2**-11


@pytest.mark.parametrize(
    ("batch", "expected"), [(1, [8]), (8, [8]), (9, [16]), (17, [32]), (33, [32, 8]), (75, [32, 32, 16])]
)
def test_the_smallest_kernel_that_holds_the_rest_of_a_batch_is_called(batch, expected):
    projection, kernels = make({"a": 5}, 4)
    project(projection, "a", torch.ones(batch, 5))
    assert [call[0] for call in kernels.calls] == expected


def test_an_example_has_the_same_features_in_every_batch():
    gradients = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    projection, _ = make({"a": 30}, 20)
    whole = project(projection, "a", gradients)
    for size in (1, 7, 16):
        assert torch.equal(torch.cat([project(projection, "a", part) for part in gradients.split(size)]), whole)


def test_numbers_that_float16_cannot_hold_are_projected_all_the_same():
    direction = torch.randn(1, 30, generator=torch.Generator().manual_seed(0))
    scales = 2.0 ** torch.tensor([[0], [-40], [-100], [17], [100]])
    projection, _ = make({"a": 30}, 20)
    found = project(projection, "a", direction * scales)
    # The ones that `project` adds and takes away swallow what is small, so those features are added to zeros.
    features = torch.zeros(len(scales), 20)
    projection.add(features, "a", direction * scales)
    assert torch.equal(features / scales, features[:1].expand(len(scales), -1))
    torch.testing.assert_close(found[0], features[0], rtol=1e-5, atol=1e-6)


def test_rows_that_are_zero_nan_or_infinite_leave_the_others_alone():
    gradients = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    gradients[1], gradients[2, 3], gradients[3, 4] = 0, float("nan"), float("inf")
    projection, _ = make({"a": 30}, 20)
    found = project(projection, "a", gradients)
    assert torch.isfinite(found).all(dim=1).tolist() == [True, True, False, False, True]
    assert not found[1].any()
    assert torch.equal(found[[0, 4]], project(projection, "a", gradients[[0, 4]]))


def test_a_parameter_too_large_for_32_bit_counts_is_projected_in_pieces_with_a_seed_each(monkeypatch):
    monkeypatch.setattr(fast_jl, "MAX_SIZE", 12)
    gradients = torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    projection, kernels = make({"a": 30}, 20)
    found = project(projection, "a", gradients)
    assert [call[1][1] for call in kernels.calls] == [12, 12, 6]
    seeds = [call[3] for call in kernels.calls]
    assert len(set(seeds)) == 3
    matrix = torch.cat([column_signs(size, 20, seed) for size, seed in zip((12, 12, 6), seeds, strict=True)])
    torch.testing.assert_close(found.double(), gradients.double() @ matrix * 20**-0.5, rtol=1e-2, atol=1e-2)


def test_parameters_and_seeds_have_their_own_matrices_and_empty_ones_are_skipped():
    seeds = []
    for seed in (0, 1):
        projection, kernels = make({"a": 5, "b": 5, "empty": 0}, 4, seed)
        for name in ("a", "b"):
            project(projection, name, torch.ones(2, 5))
        assert not project(projection, "empty", torch.ones(2, 0)).any()
        seeds += [call[3] for call in kernels.calls]
    assert len(set(seeds)) == 4


@needs_fast_jl
def test_the_matrix_on_a_gpu_has_signs_and_does_not_depend_on_batch_or_k():
    identity = torch.eye(100, device="cuda")
    found = project(FastJLProjection({"a": 100}, 700, 0, "cuda"), "a", identity) * 700**0.5
    torch.testing.assert_close(found.abs(), torch.ones_like(found), rtol=1e-4, atol=1e-4)
    assert abs(float(found.mean())) < 5 / 70000**0.5
    narrow = FastJLProjection({"a": 100}, 40, 0, "cuda")
    parts = torch.cat([project(narrow, "a", part) for part in identity.split(7)]) * 40**0.5
    torch.testing.assert_close(parts, found[:, :40], rtol=1e-4, atol=1e-4)


@needs_fast_jl
@pytest.mark.parametrize("size", [1, 100, 129, 5000])
def test_projecting_on_a_gpu_is_linear(size):
    projection = FastJLProjection({"a": size}, 100, 0, "cuda")
    rows = torch.randn(40, size, generator=torch.Generator().manual_seed(0)).cuda()
    matrix = torch.cat([project(projection, "a", part) for part in torch.eye(size, device="cuda").split(32)])
    expected = rows.double() @ matrix.double()
    error = (project(projection, "a", rows).double() - expected).norm(dim=1) / expected.norm(dim=1)
    assert float(error.max()) < 2**-9
