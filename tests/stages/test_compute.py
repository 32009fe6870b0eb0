"""The table of LDS against compute, from logs and a table written by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trakflow.config.variants import sized_variants
from trakflow.evaluation.costs import method_work, training_work, variant_work
from trakflow.layout import Layout
from trakflow.stages.compute import compute
from trakflow.store.files import write_json

METHODS = ("methods=[trak,gas,empirical_influence,random]", "fitting.subsets=12", "fitting.counts=[8]")


def took(piece, *seconds):
    return "".join(f"took: {json.dumps({'piece': piece, 'seconds': value})}\n" for value in seconds)


def write_logs(folder, works):
    """The log of every job, in which each piece took one, three and two seconds."""
    pieces = {}
    for work in works:
        pieces.setdefault(work.log, set()).add(work.piece)
    for log, names in pieces.items():
        path = folder / "logs" / f"{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(took(name, 1.0, 3.0, 2.0) for name in sorted(names)), encoding="utf8")


def write_tables(config, layout):
    """The tables that the stage reads, and the logs of all jobs of the methods."""
    rows = [
        {"method": method, "checkpoints": count, "fitted_subsets": 0, "lds": 0.5, "ci_low": 0.4, "ci_high": 0.6}
        | {"ceiling": 0.9, "subsets": 6, "retrains": 2}
        for method in config.methods
        for count in config.counts_of(method)
    ]
    write_json(layout.forward_backward, {"seconds": 0.5, "passes": 7, "threads": 1})
    Path(layout.lds).parent.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(layout.lds, index=False)
    write_logs(
        Path(layout.root),
        [
            work
            for method in config.methods
            for count in config.counts_of(method)
            for work in (*method_work(config, method, count), *training_work(config, method, count))
        ],
    )


def test_seconds_of_a_row_are_those_of_its_jobs_and_their_unit_a_pass(experiment):
    run = experiment(*METHODS)
    config, layout = run.config, run.layout
    write_tables(config, layout)
    compute(config, layout)
    table = pd.read_csv(layout.compute)
    found = {
        (row.method, count): row for row, count in zip(table.itertuples(), [1, 2, 3, 1, 2, 3, 8, 12, 1], strict=True)
    }
    # Two shards, target features and a kernel for each checkpoint; the ridge and the scores of all are two jobs.
    assert [found["trak", count].seconds for count in (1, 2, 3)] == [2 * (4 + 1), 2 * (8 + 1), 2 * (12 + 2)]
    assert [found["gas", count].seconds for count in (1, 2, 3)] == [2 * 2, 2 * 3, 2 * 4]
    assert [found["gas", count].training_seconds for count in (1, 2, 3)] == [2, 4, 6]
    # A batch of four models and their outputs for every four subsets.
    assert [found["empirical_influence", count].seconds for count in (8, 12)] == [2 * 5, 2 * 7]
    assert np.isnan(found["random", 1].seconds)
    assert found["trak", 1].seconds_low == 5
    assert found["trak", 1].seconds_high == 15
    assert found["trak", 1].forward_backward_equivalents == 20
    assert found["trak", 1].equivalents_with_training == pytest.approx(24)
    assert found["trak", 1].repeats == 3


def test_trak_with_a_further_k_comes_after_trak_with_the_seconds_of_its_variant(experiment):
    run = experiment(
        "methods=[trak,gas,random]", "paper=quick", "paper.trak_k=[4,8]", "paper.epochs=[]", "removal.counts=[]"
    )
    config, layout = run.config, run.layout
    write_tables(config, layout)
    for number, (k, name) in enumerate(sized_variants(config).items()):
        columns = {"lds": [0.1, 0.2, 0.3], "ci_low": 0.0, "ci_high": 1.0, "subsets": 6, "retrains": 2}
        table = pd.DataFrame({"checkpoints": [1, 2, 3], "ridge": 1.0, "k": k, **columns}).assign(lds=number / 10)
        Path(layout.variant(name)).joinpath("evaluation").mkdir(parents=True)
        table.to_csv(Layout(layout.variant(name)).lds, index=False)
        write_logs(Path(layout.root), [work for count in (1, 2, 3) for work in variant_work(name, count)])
    compute(config, layout)
    table = pd.read_csv(layout.compute)
    order = ["trak", "trak (k = 4)", "trak (k = 8)", "gas", "random"]
    assert table["method"].tolist() == [name for name in order[:-1] for _ in range(3)] + order[-1:]
    for number, name in enumerate(order[1:3]):
        rows = table[table["method"] == name]
        # A piece for each checkpoint, one for the scores, two seconds each.
        assert rows["seconds"].tolist() == [4, 6, 8]
        assert rows["training_seconds"].tolist() == [2, 4, 6]
        assert (rows["lds"] == number / 10).all()
        assert (rows["ceiling"] == 0.9).all()
        assert (rows["repeats"] == 3).all()
