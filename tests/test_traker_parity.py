"""Scores against those of the published implementation, traker 0.3.2, on the same weights and data."""

import numpy as np
import pytest
from safetensors.torch import load_file
from trak import TRAKer
from trak.projectors import NoOpProjector

from trakflow.models.mlp import MLP

RIDGE = 5.0


def traker_scores(folder, model, train, targets, ridge):
    parameters = sum(value.numel() for value in model.parameters())
    traker = TRAKer(
        model=model,
        task="image_classification",
        train_set_size=len(train[0]),
        save_dir=str(folder),
        device="cpu",
        projector=NoOpProjector(device="cpu"),
        use_half_precision=False,
        logging_level=100,
        # It divides every gradient by sqrt(p), so its Gram matrix is ours divided by p.
        lambda_reg=ridge / parameters,
    )
    traker.load_checkpoint(model.state_dict(), model_id=0)
    traker.featurize(train, num_samples=len(train[0]))
    traker.finalize_features()
    traker.start_scoring_checkpoint("targets", model.state_dict(), 0, num_targets=len(targets[0]))
    traker.score(targets, num_samples=len(targets[0]))
    return np.array(traker.finalize_scores("targets"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [60, 200])
def test_scores_are_proportional_to_trakers(experiment, tmp_path, size):
    run = experiment(
        "sketch=identity",
        "sketch.k=null",
        "evaluation=none",
        "checkpoints.count=1",
        "solver.weights=off",
        f"solver.ridge={RIDGE}",
        "solver.ridge_unit=absolute",
        "model.widths=[2]",
        f"data.train_size={size}",
    )
    run.prepare().train().featurize().solve()
    model = MLP(64, [2], 10)
    model.load_state_dict(load_file(run.layout.checkpoint(0)))
    train, targets = (
        (data["inputs"], data["labels"]) for data in (load_file(run.layout.train), load_file(run.layout.targets))
    )
    theirs, ours = traker_scores(tmp_path / "traker", model.eval(), train, targets, RIDGE), run.scores()
    assert theirs.shape == ours.shape == (size, 7)
    for target in range(7):
        assert np.corrcoef(theirs[:, target], ours[:, target])[0, 1] > 0.9999
    # It rescales the inverse by one number, so one factor must do for all targets.
    factor = (theirs * ours).sum() / (ours**2).sum()
    assert factor > 0
    assert np.abs(theirs - factor * ours).max() < 1e-3 * np.abs(theirs).max()
