"""The sparse projection against its matrix, written out, by each of the ways to multiply by it."""

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from trakflow.seeds import generator
from trakflow.sketches import sjlt
from trakflow.sketches import sjlt_kernels as compiled
from trakflow.sketches.sjlt import SparseProjection
from trakflow.sketches.sjlt_kernels import add_signed

WAYS = {"torch": 1 << 62, "compiled": 0}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    monkeypatch.setattr(sjlt, "COMPILED_FROM", WAYS[request.param])
    return request.param


@pytest.fixture
def by_compiled(monkeypatch):
    monkeypatch.setattr(sjlt, "COMPILED_FROM", 0)


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(compiled, "WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def dense_matrix(seed, name, size, k, nonzeros):
    """What the sketch has been since its first version: changing this changes every result made with it."""
    random = generator(seed, "sjlt", name)
    features = random.integers(0, k // nonzeros, (nonzeros, size))
    positive = random.integers(0, 2, (nonzeros, size))
    matrix = np.zeros((size, k))
    for entry in range(size):
        for block in range(nonzeros):
            feature = block * (k // nonzeros) + features[block, entry]
            matrix[entry, feature] = (1 if positive[block, entry] else -1) / np.sqrt(nonzeros)
    return torch.from_numpy(matrix)


def gradients_of(batch, size, dtype=torch.float64):
    return torch.randn(batch, size, dtype=dtype, generator=torch.Generator().manual_seed(batch * size))


# Sizes below, at and above where blocks pay, not multiples of the vector width, and longer than a tile.
@pytest.mark.parametrize("nonzeros", [1, 2, 4])
@pytest.mark.parametrize(("size", "k"), [(1, 16), (50, 64), (513, 64), (9001, 32)])
@pytest.mark.parametrize("batch", [1, 8, 21])
def test_it_multiplies_by_the_same_matrix_as_ever_in_float64(way, nonzeros, size, k, batch):
    gradients = gradients_of(batch, size)
    features = torch.ones(batch, k, dtype=torch.float64)
    SparseProjection({"a": size}, k, 7, nonzeros).add(features, "a", gradients)
    expected = 1 + gradients @ dense_matrix(7, "a", size, k, nonzeros)
    torch.testing.assert_close(features, expected, rtol=1e-12, atol=1e-11)


def test_every_way_adds_in_the_same_order_to_the_last_bit(monkeypatch):
    for size, k, nonzeros, batch, dtype in itertools.product(
        (7, 5003), (16, 512), (1, 2, 4), (1, 13), (torch.float32, torch.float64)
    ):
        found = []
        for start in WAYS.values():
            monkeypatch.setattr(sjlt, "COMPILED_FROM", start)
            features = torch.ones(batch, k, dtype=dtype)
            SparseProjection({"a": size}, k, 0, nonzeros).add(features, "a", gradients_of(batch, size, dtype))
            found.append(features)
        assert torch.equal(*found)


def test_the_kernel_is_taken_once_there_is_enough_to_add_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(sjlt, "COMPILED_FROM", 2500)
    used = []
    real = SparseProjection._add_compiled
    monkeypatch.setattr(SparseProjection, "_add_compiled", lambda *given: (used.append(given[2]), real(*given)))
    projection = SparseProjection({"a": 100, "b": 30}, 16, 0, 2)
    for number in range(3):
        features = torch.zeros(5, 16)
        for name, size in (("a", 100), ("b", 30)):
            projection.add(features, name, gradients_of(5, size, torch.float32))
        if number == 0:
            first = features
        assert torch.equal(features, first)
    # Additions up to then: 1,000 by a, 1,300 with b, 2,300, 2,600.
    assert used == ["b", "a", "b"]
    assert {way for way, _ in projection._hashes} == {"compiled"}  # what torch read is given back


@pytest.mark.parametrize("nonzeros", [1, 4])
def test_sums_do_not_depend_on_batch_or_threads_to_the_last_bit(by_compiled, monkeypatch, nonzeros):
    gradients = gradients_of(61, 3001, torch.float32)
    monkeypatch.setattr(compiled, "WORK_PER_THREAD", 1)
    before = torch.get_num_threads()
    projection = SparseProjection({"a": 3001}, 64, 0, nonzeros)
    found = []
    for threads, batch in itertools.product((1, 2, 5, 16), (1, 7, 8, 20, 61)):
        torch.set_num_threads(threads)
        features = torch.zeros(61, 64)
        for rows, part in zip(features.split(batch), gradients.split(batch), strict=True):
            projection.add(rows, "a", part)
        found.append(features)
    torch.set_num_threads(before)
    assert all(torch.equal(features, found[0]) for features in found)


def test_as_many_threads_as_torch_may_use_share_the_rows(by_compiled, three_threads, monkeypatch):
    seen = []
    real = compiled._add_blocks
    monkeypatch.setattr(
        compiled, "_add_blocks", lambda *given: (seen.append((threading.get_ident(), *given[4:])), real(*given))
    )
    SparseProjection({"a": 900}, 16, 0).add(torch.zeros(40, 16), "a", gradients_of(40, 900, torch.float32))
    assert sorted(part[1:] for part in seen) == [(0, 8), (8, 24), (24, 40)]
    assert threading.get_ident() in {part[0] for part in seen}


def test_strided_and_half_precision_tensors_are_taken_as_they_are(way):
    gradients = gradients_of(9, 200, torch.float32)
    projection = SparseProjection({"a": 200}, 16, 0)
    expected = torch.zeros(9, 16)
    projection.add(expected, "a", gradients)
    wide = torch.zeros(9, 48)
    projection.add(wide[:, 1::3], "a", gradients.T.contiguous().T)
    assert torch.equal(wide[:, 1::3], expected)
    assert float(wide[:, 0::3].abs().max()) == 0
    found = torch.zeros(9, 16)
    projection.add(found, "a", gradients.bfloat16())
    rounded = torch.zeros(9, 16)
    projection.add(rounded, "a", gradients.bfloat16().float())
    assert torch.equal(found, rounded)


def test_non_finite_gradients_reach_the_features(way):
    gradients = torch.ones(9, 200)
    gradients[4, 17], gradients[7, 3] = torch.nan, torch.inf
    features = torch.zeros(9, 16)
    SparseProjection({"a": 200}, 16, 0).add(features, "a", gradients)
    assert torch.nonzero(~features.isfinite().all(dim=1)).flatten().tolist() == [4, 7]


def test_empty_batches_and_parameters_add_nothing(way):
    projection = SparseProjection({"a": 0, "b": 5}, 16, 0)
    features = torch.ones(3, 16)
    projection.add(features, "a", torch.zeros(3, 0))
    projection.add(features[:0], "b", torch.zeros(0, 5))
    assert torch.equal(features, torch.ones(3, 16))


@pytest.mark.parametrize(("rows", "size", "k"), [(3, 49, 16), (3, 50, 15)])
def test_shapes_that_do_not_fit_are_refused(way, rows, size, k):
    with pytest.raises(ValueError, match=r"Gradients by a have shape .*expected \(batch, 50\) and \(batch, 16\)"):
        SparseProjection({"a": 50}, 16, 0).add(torch.zeros(3, k), "a", torch.zeros(rows, size))


def test_the_kernel_refuses_what_it_would_read_wrongly():
    good = {"features": np.zeros((2, 4)), "gradients": np.zeros((2, 3)), "codes": np.zeros((1, 3), np.uint32)}
    for change, message in (
        ({"gradients": np.zeros((2, 3), np.float32)}, "gradients float32"),
        ({"gradients": np.zeros((3, 2)).T}, "gradients must be in C order"),
        ({"codes": np.zeros((1, 4), np.uint32)}, "codes of 4 entries"),
    ):
        with pytest.raises(ValueError, match=message):
            compiled._check(**{**good, **change})


def run_python(code, **environment):
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return found.stdout.split()


FIRST_USE = """
import sys, torch
from trakflow.sketches import sjlt
projection = sjlt.SparseProjection({"a": 100}, 16, 0)
features = torch.zeros(20, 16)
projection.add(features, "a", torch.ones(20, 100))
print("numba" in sys.modules)
sjlt.COMPILED_FROM = 0
projection.add(features, "a", torch.ones(20, 100))
from trakflow.sketches.sjlt_kernels import _add_blocks
print(sum(_add_blocks.stats.cache_hits.values()), sum(_add_blocks.stats.cache_misses.values()))
print(float(features.abs().sum()))
"""


def test_numba_is_imported_when_needed_and_compiles_once_for_all_processes(tmp_path):
    first, second = (run_python(FIRST_USE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert first[:3] == ["False", "0", "1"]
    assert second[:3] == ["False", "1", "0"]
    assert first[3] == second[3]


def test_where_no_folder_can_be_written_to_the_kernel_is_compiled_anyway():
    code = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"  # root may write to every folder, so none can be made unwritable
        "import torch\n"
        "from trakflow.sketches import sjlt\n"
        "sjlt.COMPILED_FROM = 0\n"
        "features = torch.zeros(20, 16)\n"
        "sjlt.SparseProjection({'a': 1000}, 16, 0).add(features, 'a', torch.eye(20, 1000))\n"
        "print(int(features.abs().sum()))\n"
    )
    assert run_python(code) == ["20"]


def test_a_forked_child_and_concurrent_callers_get_the_same_sums(by_compiled, three_threads):
    gradients = gradients_of(40, 900, torch.float32)
    projection = SparseProjection({"a": 900}, 16, 0)

    def project():
        features = torch.zeros(40, 16)
        projection.add(features, "a", gradients)
        return features

    expected = project()
    found = []
    callers = [threading.Thread(target=lambda: found.append(project())) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 6
    assert all(torch.equal(features, expected) for features in found)
    child = os.fork()
    if child == 0:  # no torch operation that would use its threads: they are not in the child
        features = np.zeros((40, 16), np.float32)
        add_signed(features, gradients.numpy(), projection._hashes["compiled", "a"], 1.0, 3)
        os._exit(0 if np.array_equal(features, expected.numpy()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
