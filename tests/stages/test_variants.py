"""Variants of an experiment: what they take from it, and what they make themselves."""

from pathlib import Path

import numpy as np

from trakflow.layout import Layout
from trakflow.stages.attribute import finalize
from trakflow.stages.variants import variant


def test_a_variant_by_the_experiments_features_has_the_lds_of_one_that_makes_them_anew(experiment, tmp_path):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "masks.npy", generator.random((6, 60)) < 0.5)
    np.save(tmp_path / "outputs.npy", generator.standard_normal((2, 6, 7)))
    run = experiment(
        "evaluation=files",
        f"evaluation.masks='{tmp_path}/masks.npy'",
        f"evaluation.outputs='{tmp_path}/outputs.npy'",
        "solver.ridge=1.0",
    )
    run.prepare().train().featurize()
    for checkpoint in run.checkpoints:
        run.run(finalize, checkpoint=checkpoint)
    whole, tables = run.layout, []
    for own in (True, False):
        if not own:  # nothing can be featurized any more
            for checkpoint in run.checkpoints:
                Path(whole.checkpoint(checkpoint)).unlink()
        run.layout = Layout(whole.variant(f"own_{own}"), whole.root, own_features=own)
        run.run(variant, own_features=own)
        tables.append(Path(run.layout.lds).read_text(encoding="utf8"))
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) > 1
