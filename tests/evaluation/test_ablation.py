"""The ablated scores against inverses written out in numpy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trakflow.config.ablation import ablation_bytes
from trakflow.evaluation.ablation import DenseParts, ablated_scores, soft_threshold


def parts(n, k, m, seed, ridge=0.7):
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(n, k)), random.random(n), random.random(n) + 0.1, random.normal(size=(m, k))]
    return DenseParts(*(torch.from_numpy(array) for array in arrays), ridge)


@pytest.mark.parametrize(("n", "k"), [(12, 5), (7, 20)])
def test_scores_are_the_formula_with_an_explicit_inverse(n, k):
    chosen = [parts(n, k, 4, 1), parts(n, k, 4, 2, ridge=1.3)]
    products, gradients = [], []
    for own in chosen:
        phi, q, w, targets = (
            value.numpy() for value in (own.features, own.loss_gradients, own.curvatures, own.target_features)
        )
        inverse = np.linalg.inv(phi.T @ np.diag(w) @ phi + own.ridge * np.eye(k))
        products.append(phi @ inverse @ targets.T)
        gradients.append(q[:, None])
    found = ablated_scores(chosen)
    mean = np.mean(products, axis=0)
    np.testing.assert_allclose(found["TRAK"], np.mean(gradients, axis=0) * mean, rtol=1e-9)
    np.testing.assert_allclose(found["without Q"], mean, rtol=1e-9)
    averaged = np.mean([q * a for q, a in zip(gradients, products, strict=True)], axis=0)
    np.testing.assert_allclose(found["scores averaged, not Q and kernel apart"], averaged, rtol=1e-9)
    plain = np.mean([own.features.numpy() @ own.target_features.numpy().T for own in chosen], axis=0)
    np.testing.assert_allclose(found["without the kernel"], np.mean(gradients, axis=0) * plain, rtol=1e-9)


@pytest.mark.parametrize(("n", "k"), [(12, 5), (7, 20)])
def test_kernels_of_equal_checkpoints_average_to_the_method(n, k):
    found = ablated_scores([parts(n, k, 4, 1)] * 3)
    np.testing.assert_allclose(found["kernels averaged before they are solved"], found["TRAK"], rtol=1e-7)


def test_a_soft_threshold_keeps_signs_and_sets_a_part_to_zero():
    scores = np.random.default_rng(0).normal(size=(101, 3))
    found = soft_threshold(scores, 0.5)
    assert ((found == 0).sum(axis=0) == 51).all()
    assert (found * scores >= 0).all()
    np.testing.assert_allclose(np.abs(scores - found).max(axis=0), np.median(np.abs(scores), axis=0))
    np.testing.assert_array_equal(
        np.argsort(found[:, 0], kind="stable")[-10:], np.argsort(scores[:, 0], kind="stable")[-10:]
    )


def peak_of_the_table(checkpoints, n, m, k):
    """Print by how many bytes the table of ablations raises the peak memory of this process."""
    torch.set_num_threads(1)
    ablated_scores([parts(400, 600, 20, 0)])  # loads what is loaded once
    before = peak_memory()
    ablated_scores([parts(n, k, m, seed) for seed in range(checkpoints)])
    print(peak_memory() - before)


def peak_memory():
    # Not by getrusage, in which the peak of the parent counts too.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


# Of arrays so large that the allocator gives each back.
@pytest.mark.parametrize("sizes", [(3, 3000, 20, 500), (2, 3000, 20, 3500)], ids=["k < n", "k > n"])
def test_the_table_takes_the_memory_that_it_is_said_to_need(sizes):
    command = [sys.executable, __file__, *map(str, sizes)]
    found = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found <= 1.1 * ablation_bytes(*sizes)
    assert found >= 0.8 * ablation_bytes(*sizes)


if __name__ == "__main__":
    peak_of_the_table(*map(int, sys.argv[1:]))
