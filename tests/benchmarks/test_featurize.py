"""The featurize benchmark measures what it says: the models' sizes, and peers that do the same job as a sketch."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from trakflow.config.attribution import Sketch
from trakflow.models.mlp import MLP
from trakflow.sketches.build import build_sketch
from trakflow.tasks.classification import Classification

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {"mlp": 118_282, "resnet9": 2_274_880, "bert": 11_377_538}


@pytest.fixture
def benchmarks(monkeypatch):
    """Make the scripts' own folder importable, as it is when one of them runs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("name", ["mlp", "resnet9", "bert"])
def test_models_have_their_size_and_take_their_batches(benchmarks, name):
    if name == "bert":
        pytest.importorskip("transformers")
    from models import MODELS, make_batch, make_model, parameter_count

    model, batch = make_model(name, 0, "cpu"), make_batch(name, 2, 1, "cpu")
    assert parameter_count(model) == SIZES[name]
    assert not model.training
    assert model(batch["inputs"]).shape == (2, MODELS[name].classes)
    assert torch.equal(batch["inputs"], make_batch(name, 2, 1, "cpu")["inputs"])


@pytest.mark.parametrize("peer", ["traker", "dattri"])
@pytest.mark.filterwarnings("ignore")
def test_a_peer_computes_the_gradients_that_a_sketch_does(benchmarks, peer):
    pytest.importorskip({"traker": "trak", "dattri": "dattri"}[peer])
    from trak.projectors import NoOpProjector

    import peers

    torch.manual_seed(0)
    model, task = MLP(12, [5], 4).eval(), Classification()
    batch = {"inputs": torch.randn(6, 12), "labels": torch.randint(4, (6,))}
    ours = build_sketch(Sketch(name="identity"), model, task, 0, 0, "cpu")(batch).features
    unprojected = {"traker": {"projector": NoOpProjector(device="cpu")}, "dattri": {"kind": "identity"}}[peer]
    with peers.PEERS[peer](model, task, batch, ours.shape[1], "cpu", **unprojected) as featurize:
        for _ in range(peers.TRAKER_CALLS + 1):
            theirs = featurize() * ours.shape[1] ** 0.5
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("peer", ["traker", "dattri"])
@pytest.mark.filterwarnings("ignore")
def test_a_peer_projects_so_that_inner_products_stay(benchmarks, peer):
    pytest.importorskip({"traker": "trak", "dattri": "dattri"}[peer])
    import peers

    torch.manual_seed(0)
    model, task, k = MLP(12, [5], 4).eval(), Classification(), 20_000
    batch = {"inputs": torch.randn(6, 12), "labels": torch.randint(4, (6,))}
    ours = build_sketch(Sketch(name="identity"), model, task, 0, 0, "cpu")(batch).features
    with peers.PEERS[peer](model, task, batch, k, "cpu") as featurize:
        theirs = featurize()
    assert theirs.shape == (6, k)
    gram, expected = theirs @ theirs.T, ours @ ours.T
    gram, expected = gram / gram.trace(), expected / expected.trace()
    assert (gram - expected).abs().max() < 0.02


def test_memory_of_a_call_is_what_it_allocates_and_a_pair_is_a_ratio(benchmarks):
    import measure

    mebi = 2**18

    def call():
        return torch.ones(48 * mebi).sum()

    def floor():
        return torch.ones(8 * mebi).sum()

    found = measure.alternate(call, floor, "cpu", repeats=3, budget=60)
    assert len(found.ratios) == 3
    assert found.result == 48 * mebi
    if sys.platform == "linux":
        assert 40 < found.peak_mib < 64
        assert 7 < found.floor_peak_mib < 20


def test_a_row_is_measured_or_says_why_not(tmp_path):
    out = tmp_path / "featurize.csv"
    command = ["featurize.py", "--quick", "--models", "mlp", "--sketches", "sjlt", "--repeats", "1", "--out", str(out)]
    subprocess.run([sys.executable, str(BENCHMARKS / command[0]), *command[1:]], check=True, cwd=tmp_path)
    table = pd.read_csv(out)
    assert list(table["batch"]) == [1, 16, 64, 256]
    assert list(table["not_run"].isna()) == [False, True, False, False]
    row = table.iloc[1]
    assert (row["k"], row["k_actual"], row["repeats"]) == (2048, 2048, 1)
    assert row["examples_per_second"] == pytest.approx(16 / row["seconds"])
    assert row["ratio_to_forward_backward"] > 0


def test_a_row_that_memory_does_not_hold_is_refused_with_the_numbers(benchmarks):
    import featurize
    from sketches import FEATURIZE

    (line,) = (line for line in FEATURIZE if line.label == "sjlt")
    assert featurize.why_not(line, "bert", 64, 10**7, 20.0, False) is None
    assert "4.8 GiB, and 4.0 GiB" in featurize.why_not(line, "bert", 64, 10**7, 4.0, False)


def test_lines_after_a_killed_process_say_so(benchmarks, monkeypatch, tmp_path):
    import argparse

    import featurize
    from sketches import FEATURIZE

    dies = tmp_path / "dies.py"
    dies.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(featurize, "__file__", str(dies))
    rows = [{"batch": 1, "not_run": "left out"}, {"batch": 16, "not_run": None}]
    found = featurize.run_apart(FEATURIZE[0], rows, argparse.Namespace(threads=1))
    assert [row["not_run"] for row in found] == ["left out", "its process ended with SIGKILL"]
    assert json.dumps(found)
