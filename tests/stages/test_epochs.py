"""Checkpoints from several epochs of a run."""

import numpy as np
from safetensors.torch import load_file

EPOCHS = ("checkpoints.epochs=[4,10]", "checkpoints.count=4", "solver.ridge=1.0")


def test_a_run_gives_a_checkpoint_after_each_of_its_epochs(experiment):
    run = experiment(*EPOCHS).prepare().train()
    whole = experiment("checkpoints.count=2", name="whole").prepare().train()
    masks = [np.load(run.layout.checkpoint_mask(number)) for number in range(4)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[1] != masks[2]).any()
    for number in (0, 1):
        last, alone = load_file(run.layout.checkpoint(2 * number + 1)), load_file(whole.layout.checkpoint(number))
        early = load_file(run.layout.checkpoint(2 * number))
        for name, value in alone.items():
            assert (last[name] == value).all()
        assert any((early[name] != value).any() for name, value in alone.items())
