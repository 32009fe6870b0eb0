"""Variants of an experiment: what they take from it, and what they make themselves."""

import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from trakflow.evaluation.costs import variant_work
from trakflow.layout import Layout
from trakflow.stages import variants
from trakflow.stages.attribute import finalize
from trakflow.stages.timing import read_seconds
from trakflow.stages.variants import variant


def evaluated_by_files(experiment, tmp_path, *overrides):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "masks.npy", generator.random((6, 60)) < 0.5)
    np.save(tmp_path / "outputs.npy", generator.standard_normal((2, 6, 7)))
    return experiment(
        "evaluation=files",
        f"evaluation.masks='{tmp_path}/masks.npy'",
        f"evaluation.outputs='{tmp_path}/outputs.npy'",
        "solver.ridge=1.0",
        *overrides,
    )


def test_a_variant_by_the_experiments_features_or_kernels_has_the_lds_of_one_that_makes_them_anew(experiment, tmp_path):
    run = evaluated_by_files(experiment, tmp_path)
    run.prepare().train().featurize()
    for checkpoint in run.checkpoints:
        run.run(finalize, checkpoint=checkpoint)
    whole, tables = run.layout, []
    # What the later ones must not need is taken away before them.
    for own_from, taken in (("features", whole.checkpoint), ("scores", whole.kernel), ("kernels", None)):
        run.layout = Layout(whole.variant(f"from_{own_from}"), whole.root, own_from)
        run.run(variant, own_from=own_from)
        tables.append(Path(run.layout.lds).read_text(encoding="utf8"))
        for checkpoint in run.checkpoints if taken else ():
            Path(taken(checkpoint)).unlink()
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0].splitlines()) > 1


@pytest.mark.parametrize("timed", [True, False])
def test_each_piece_of_a_timed_variant_is_done_as_often_as_seconds_are_wanted(experiment, tmp_path, caplog, timed):
    run = evaluated_by_files(experiment, tmp_path, "runtime.repeats=3")
    run.prepare().train()
    run.layout = Layout(run.layout.variant("same"), run.layout.root)
    with caplog.at_level(logging.INFO, logger="trakflow"):
        run.run(variant, timed=timed)
    log = tmp_path / "job.log"
    log.write_text("\n".join(caplog.messages), encoding="utf8")
    pieces = read_seconds(log)
    assert set(pieces) == {work.piece for count in run.config.counts_evaluated for work in variant_work("same", count)}
    assert {len(seconds) for seconds in pieces.values()} == {3 if timed else 1}


def test_what_a_killed_job_left_of_a_variant_is_removed(experiment, tmp_path):
    run = evaluated_by_files(experiment, tmp_path).prepare().train()
    run.layout = Layout(run.layout.variant("same"), run.layout.root)

    def killed():
        variants.finalize = lambda *_: os._exit(1)
        run.run(variant)

    job = multiprocessing.get_context("fork").Process(target=killed)
    job.start()
    job.join()
    assert job.exitcode == 1
    left = _files(run.layout.root)
    assert any(path.parent.parent.name == "features" for path in left)
    run.run(variant)
    assert not left & _files(run.layout.root)
    assert {Path(run.layout.lds), Path(run.layout.ridge_curve)} == _files(run.layout.root)


def _files(folder):
    return {path for path in Path(folder).rglob("*") if path.is_file()}
