"""The stages with the model on a GPU, from files of the CPU; these need one."""

import numpy as np
import pytest
import torch

from trakflow.stages.prepare import prepare_targets, prepare_train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize("sketch", ["tensor_sketch", "factorized", "sjlt", "gaussian", "rademacher"])
def test_scores_by_checkpoints_of_the_cpu_are_the_cpus(experiment, sketch):
    size = "sketch.side=4" if sketch == "factorized" else "sketch.k=16"
    run = experiment(f"sketch={sketch}", size, "solver.ridge=1.0")
    run.run(prepare_train)
    run.train()
    run.run(prepare_targets)
    expected = run.featurize().solve().scores()
    run.configure(f"sketch={sketch}", size, "solver.ridge=1.0", "runtime.device=cuda")
    found = run.featurize().solve().scores()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
