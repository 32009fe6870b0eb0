import importlib.util

import pytest
import torch
from run_script import run_script

from trakflow.errors import DeviceError
from trakflow.sketches import rademacher
from trakflow.sketches.philox import random_bits
from trakflow.sketches.rademacher import RademacherProjection

SEED = 0x7123456789ABCDEF

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs the package triton, which is for Linux"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

# batch, size, k, first row: tails and several blocks in every dimension, in turn, and rows that need 32 bits.
SHAPES = [
    (1, 1, 1, 0),
    (1, 1, 2049, 2**32 - 1),
    (7, 1000, 100, 0),
    (33, 1025, 100, 3),
    (65, 33, 300, 2**31 - 5),
    (300, 5, 129, 0),
    (2, 64, 512, 1000),
]
IDENTITIES = [(40, 257, 0), (64, 128, 2**31 - 7)]


def case(batch, size, k, first_row):
    generator = torch.Generator().manual_seed(batch + size + k)
    # Entries of very different sizes: what is lost of the large ones is larger than the small ones.
    gradients = torch.randn(batch, size, generator=generator) * 10.0 ** torch.randint(
        -6, 3, (batch, size), generator=generator
    )
    return {"gradients": gradients, "features": torch.ones(batch, k), "seed": SEED, "first_row": first_row}


def identity_case(size, k, first_row):
    return {"gradients": torch.eye(size), "features": torch.zeros(size, k), "seed": SEED, "first_row": first_row}


def matrix(case):
    size, k = case["gradients"].shape[1], case["features"].shape[1]
    rows = torch.arange(case["first_row"], case["first_row"] + size)
    return random_bits(rows, k, case["seed"]).double() * 2 - 1


def assert_projected(found, case):
    """Compare with a float64 product, within what float32 promises of a sum of so many terms."""
    gradients, k = case["gradients"].double(), case["features"].shape[1]
    expected = case["features"].double() + gradients @ matrix(case) * k**-0.5
    largest = 1 + gradients.norm(dim=1, keepdim=True) * k**-0.5
    assert float(((found.double() - expected).abs() / largest).max()) < 2e-6


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What the interpreted kernel makes of every case, in one process."""
    folder = tmp_path_factory.mktemp("interpreted")
    cases = [case(*shape) for shape in SHAPES] + [identity_case(*shape) for shape in IDENTITIES]
    torch.save(cases, folder / "cases.pt")
    run_script("interpret_rademacher.py", folder / "cases.pt", folder / "found.pt", TRITON_INTERPRET="1")
    return dict(zip([*SHAPES, *IDENTITIES], torch.load(folder / "found.pt"), strict=True))


@needs_triton
@pytest.mark.parametrize("shape", SHAPES)
def test_the_interpreted_kernel_is_the_product_with_the_dense_matrix(interpreted, shape):
    assert_projected(interpreted[shape], case(*shape))


@needs_triton
@pytest.mark.parametrize("shape", IDENTITIES)
def test_the_interpreted_kernel_makes_every_sign_of_the_matrix(interpreted, shape):
    expected = matrix(identity_case(*shape)).float() * shape[1] ** -0.5
    assert torch.equal(interpreted[shape], expected)


@needs_triton
def test_the_kernel_compiles_for_gpus_and_multiplies_on_their_tensor_cores(tmp_path):
    run_script("compile_rademacher.py", tmp_path, TRITON_CACHE_DIR=str(tmp_path / "cache"))
    for file, instruction in (("A100", "mma.sync"), ("H100", "wgmma.mma_async"), ("H100_one", "wgmma.mma_async")):
        assembly = (tmp_path / f"{file}.ptx").read_text()
        products = [line for line in assembly.splitlines() if instruction in line and "mma" in line.split()[0]]
        assert products
        assert all("f32.bf16.bf16" in line for line in products)


def test_a_gpu_without_triton_says_what_to_do(monkeypatch):
    monkeypatch.setattr(rademacher.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"triton is not installed.*pip install triton.*runtime\.device=cpu"):
        rademacher.require_triton()


@needs_gpu
@pytest.mark.parametrize("k", [1, 100, 512, 2049])
def test_on_a_gpu_every_sign_is_the_cpus(k):
    projection = RademacherProjection({"a": 1025}, k, 0)
    found = torch.zeros(1025, k, device="cuda")
    projection.add(found, "a", torch.eye(1025, device="cuda"))
    assert torch.equal(found.cpu(), projection.block("a", 0, 1025, torch.device("cpu")) * k**-0.5)


@needs_gpu
@pytest.mark.parametrize("shape", [*SHAPES, (33, 50_003, 2049, 0), (256, 5000, 512, 0)])
def test_on_a_gpu_features_are_right_and_the_same_in_every_run(shape):
    from trakflow.sketches.rademacher_triton import project

    own = case(*shape)
    found = []
    for _ in range(2):
        features = own["features"].cuda()
        project(features, own["gradients"].cuda(), SEED, own["first_row"])
        found.append(features.cpu())
    assert torch.equal(*found)
    assert_projected(found[0], own)


@needs_gpu
def test_on_a_gpu_entries_beyond_two_to_the_31_are_reached():
    from trakflow.sketches.rademacher_triton import project

    size = 2**28
    if torch.cuda.mem_get_info()[0] < 12 * size * 4:
        pytest.skip("needs 13 GB of GPU memory")
    gradients = torch.zeros(9, size, device="cuda")
    gradients[8, -1] = 1
    features = torch.zeros(9, 130, device="cuda")
    project(features, gradients, SEED)
    last = random_bits(torch.tensor([size - 1]), 130, SEED).float() * 2 - 1
    assert torch.equal(features[8:].cpu(), last * 130**-0.5)
    assert not features[:8].any()
