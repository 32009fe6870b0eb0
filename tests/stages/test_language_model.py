"""Every stage on a small language model: what is asked of whole passages and of single tokens."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from speeches import checksum, tarball, ten_speeches
from trakflow.data import sotu
from trakflow.models.gpt2 import gpt2
from trakflow.stages.evaluate import evaluate, subsets
from trakflow.stages.figures import draw_predicted_vs_actual, draw_top_groups
from trakflow.stages.retrain import retrain, retrained_outputs

SIZES = {"vocabulary": 280, "length": 6, "width": 8, "layers": 1, "heads": 2}
SMALL = (
    "data.train_size=40",
    "data.target_count=5",
    f"data.train.vocabulary={SIZES['vocabulary']}",
    f"data.train.length={SIZES['length']}",
    *(f"model.{name}={SIZES[name]}" for name in ("width", "layers", "heads")),
    "training.epochs=2",
    "checkpoints.count=3",
    "sketch.k=16",
    "evaluation.subsets=4",
    "evaluation.retrains=1",
    "evaluation.models_per_batch=4",
    "evaluation.checkpoint_counts=[1]",
    "evaluation.bootstrap=100",
    "scores.topk=5",
)


@pytest.mark.parametrize(("token", "task"), [("null", "log_probability"), ("-1", "language_modeling")])
def test_a_language_model_goes_through_all_stages(experiment, monkeypatch, tmp_path, token, task):
    speeches = ten_speeches()
    monkeypatch.setattr(sotu, "CHECKSUM", checksum(speeches))
    own = (f"data.train.folder={tarball(tmp_path / 'npm', speeches)}", f"data.targets.token={token}", f"task={task}")
    run = experiment(*own, base="sotu", small=SMALL).prepare().train().featurize().solve()
    for stage in (subsets, retrain, retrained_outputs, evaluate):
        run.run(stage, batch=0, retrain=0)
    for draw in (draw_predicted_vs_actual, draw_top_groups):
        run.run(draw)

    state = {name: torch.from_numpy(value[2]) for name, value in load_file(run.layout.retrained(0, 0)).items()}
    model = gpt2(**SIZES)
    model.load_state_dict(state, strict=False)
    ids = torch.from_numpy(load_file(run.layout.targets)["inputs"])
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=ids).logits[:, :-1].double(), dim=-1)
    log_p = log_p.gather(-1, ids[:, 1:, None])[..., 0]
    p = torch.exp(log_p.mean(dim=1) if token == "null" else log_p[:, -1]).numpy()
    found = load_file(run.layout.retrained_outputs(0, 0))["outputs"]
    np.testing.assert_allclose(found[2], np.log(p / (1 - p)) if task == "language_modeling" else np.log(p), rtol=1e-5)

    assert np.isfinite(run.scores()).all()
    top = pd.read_parquet(run.layout.score_topk)
    assert "1790 Speaker 0, passage" in " ".join(top["train_id"]) + " ".join(top["target_id"])
    assert "attributed_label" not in top
    groups = pd.read_parquet(run.layout.group_topk)
    assert set(groups["name"]) <= {f"{facts['year']} {facts['name']}" for facts in speeches}
    assert "attributed_label" not in groups
    assert "label" not in pd.read_csv(run.layout.figure("predicted_vs_actual", "csv")).columns
