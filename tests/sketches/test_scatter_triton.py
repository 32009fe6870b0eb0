"""The kernels that scatter on a GPU, interpreted on the CPU and on a GPU where there is one, against explicit sums."""

import importlib.util

import pytest
import torch
from run_script import run_script
from zoo import MODULES

from trakflow.sketches import hashing
from trakflow.sketches.hashing import ColumnHash, Hash, scatter_matrices, scatter_products

CPU = torch.device("cpu")

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs the package triton, which is for Linux"
)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("triton") is None,
    reason="needs an NVIDIA GPU and the package triton",
)

# batch, rows, columns, k: tails and several blocks in every dimension, in turn, and rows longer than k.
SHAPES = [
    (1, 1, 1, 1),
    (2, 9, 5, 300),
    (3, 7, 50, 16),
    (2, 130, 3, 257),
    (1, 300, 33, 64),
    (5, 4, 700, 256),
    (2, 40, 30, 700),
    (1, 90, 300, 1025),
]
KINDS = ["matrices", "products"]
TYPES = [torch.float32, torch.float64]


def case(kind, shape, dtype):
    batch, rows, columns, k = shape
    random = torch.Generator().manual_seed(sum(shape))
    own = Hash.draw(rows, k, CPU, "rows"), ColumnHash.draw(columns, k, CPU, "columns")
    hashes = {"row_index": own[0].index, "row_sign": own[0].sign, "column_sign": own[1].sign}
    left = torch.randn(batch, rows, dtype=dtype, generator=random)
    right = torch.randn(batch, columns, dtype=dtype, generator=random)
    matrices = torch.randn(batch, rows, columns, dtype=dtype, generator=random)
    given = {"matrices": matrices} if kind == "matrices" else {"left": left, "right": right}
    return {"features": torch.ones(batch, k, dtype=dtype), **given, **hashes}


def expected(found, shape):
    """Every entry added to its feature, in float64."""
    batch, _, columns, k = shape
    if "matrices" in found:
        matrices = found["matrices"].double()
    else:
        matrices = found["left"].double().unsqueeze(2) * found["right"].double().unsqueeze(1)
    feature = (found["row_index"].long().unsqueeze(1) + torch.arange(columns)) % k
    signs = torch.outer(found["row_sign"], found["column_sign"]).double()
    sums = torch.ones(batch, k, dtype=torch.float64)
    return sums.index_add_(1, feature.flatten(), (matrices * signs).flatten(1))


def assert_sums(found, kind, shape, dtype):
    assert found.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    right = expected(case(kind, shape, dtype), shape)
    torch.testing.assert_close(
        found.double(), right, rtol=0, atol=tolerance * float(right.abs().max()) * shape[1] ** 0.5
    )


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What the interpreted kernels make of every case, in one process."""
    folder = tmp_path_factory.mktemp("interpreted")
    keys = [(kind, shape, dtype) for kind in KINDS for shape in SHAPES for dtype in TYPES]
    torch.save([case(*key) for key in keys], folder / "cases.pt")
    run_script("interpret_scatter.py", folder / "cases.pt", folder / "found.pt", TRITON_INTERPRET="1")
    return dict(zip(keys, torch.load(folder / "found.pt"), strict=True))


@needs_triton
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_interpreted_kernels_add_every_entry_to_its_feature(interpreted, kind, shape, dtype):
    assert_sums(interpreted[kind, shape, dtype], kind, shape, dtype)


@needs_triton
def test_the_sketch_by_interpreted_kernels_is_the_cpus():
    assert run_script("interpret_tensor_sketch.py", TRITON_INTERPRET="1").count("\n") == len(MODULES)


def test_a_gpu_for_which_triton_cannot_compile_is_left_to_torch(monkeypatch):
    class Broken:
        @staticmethod
        def try_on(device):
            raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(hashing, "_triton_kernels", lambda: Broken)
    monkeypatch.setattr(hashing.importlib.util, "find_spec", lambda name: True)
    with pytest.warns(UserWarning, match="Failed to find C compiler.*torch's scatter"):
        assert not hashing.has_triton_kernels.__wrapped__(torch.device("cuda"))


@needs_gpu
def test_kernels_can_be_tried_on_a_gpu():
    assert hashing.has_triton_kernels(torch.device("cuda"))


@needs_triton
def test_the_kernels_compile_for_gpus(tmp_path):
    assert run_script("compile_scatter.py", TRITON_CACHE_DIR=str(tmp_path)).count("\n") == 8


@needs_gpu
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (70, 400, 90, 2048), (300, 128, 784, 100)])
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_sums_are_right_and_the_same_in_every_run_and_batch(kind, shape, dtype):
    own = {name: value.cuda() for name, value in case(kind, shape, dtype).items()}
    rows, columns = (
        Hash(own["row_index"], own["row_sign"]),
        ColumnHash(torch.arange(shape[2], dtype=torch.int32, device="cuda") % shape[3], own["column_sign"]),
    )
    found = []
    for size in (shape[0], shape[0], 2):
        features = own["features"].clone()
        for start in range(0, shape[0], size):
            part = slice(start, start + size)
            if kind == "matrices":
                scatter_matrices(features[part], own["matrices"][part], rows, columns)
            else:
                scatter_products(features[part], own["left"][part], own["right"][part], rows, columns)
        found.append(features.cpu())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert_sums(found[0], kind, shape, dtype)
