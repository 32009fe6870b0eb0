"""What a method's scores cost: which jobs are counted, and how their seconds add up."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from trakflow.config.compose import compose_config
from trakflow.errors import StoreError
from trakflow.evaluation.costs import Cost, Work, cost_of, method_work, training_work
from trakflow.stages.timing import log_seconds, read_seconds, timed

CHOSEN = (
    "methods=[trak,tracin,traker,datamodel,random]",
    "checkpoints.count=3",
    "shards=2",
    "evaluation.checkpoint_counts=[1]",
    "evaluation.models_per_batch=8",
    "fitting.subsets=20",
    "fitting.counts=[10]",
    "fitting.retrains=2",
)


@pytest.fixture(scope="module")
def config():
    return compose_config("digits", CHOSEN)


def rules(work):
    return Counter(item.log.split("/")[0] for item in work)


def test_trak_costs_features_targets_and_kernels_of_its_checkpoints_and_one_scoring(config):
    some = {"featurize": 2, "featurize_targets": 1, "finalize": 1, "score_partial": 1}
    assert rules(method_work(config, "trak", 1)) == some
    every = {"featurize": 6, "featurize_targets": 3, "finalize": 3, "choose_ridge": 1, "score": 1}
    assert rules(method_work(config, "trak", 3)) == every


def test_methods_that_read_checkpoints_need_them_trained_and_others_do_not(config):
    for method in ("trak", "tracin", "traker"):
        assert [item.log for item in training_work(config, method, 2)] == ["train_checkpoint/0", "train_checkpoint/1"]
    assert training_work(config, "datamodel", 20) == training_work(config, "random", 1) == []


def test_a_method_that_averages_by_itself_costs_the_one_job_of_its_number_of_checkpoints(config):
    assert method_work(config, "traker", 3)[0] == Work("attribute_checkpoints/traker.3")


def test_a_fitted_method_costs_its_part_of_each_batch_of_models(config):
    work = [item for item in method_work(config, "datamodel", 10) if item.log.startswith("retrain/")]
    # Batches of 8, 8 and 4 subsets, two models each.
    shares = {f"retrain/fitting.{retrain}.{batch}": part for retrain in (0, 1) for batch, part in ((0, 1.0), (1, 0.25))}
    assert {item.log: item.share for item in work} == shares


def test_scores_from_nothing_have_no_known_cost(config):
    assert method_work(config, "random", 1) == []


def test_jobs_are_repeated_exactly_where_their_seconds_are_counted():
    methods = "methods=[trak,tracin,traker,influence_arnoldi,random]"
    config = compose_config("digits", [methods, *CHOSEN[1:]])
    counted = {
        work.log.split("/")[0]
        for method in config.methods
        for count in config.counts_of(method)
        for work in (*method_work(config, method, count), *training_work(config, method, count))
    }
    # One script makes the scores of all methods but TRAK.
    scores = {f"attribute_{method}" for method in config.method}
    counted = {"attribute" if rule in scores else rule for rule in counted}
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    repeated = {path.stem for path in scripts.glob("*.py") if "repeatable=True" in path.read_text(encoding="utf8")}
    assert repeated == counted


def test_seconds_are_medians_of_repeats_times_shares():
    seconds = {"one": {"job": [3.0, 1.0, 2.0]}, "two": {"count 5": [4.0], "job": [100.0]}}
    found = cost_of([Work("one"), Work("two", "count 5", 0.5)], seconds.__getitem__)
    assert found == Cost(seconds=4.0, low=3.0, high=5.0, repeats=1)
    with pytest.raises(StoreError, match=r"job one says nothing of the seconds of its count 7"):
        cost_of([Work("one", "count 7")], seconds.__getitem__)


def test_seconds_are_read_from_the_log_that_they_were_written_to(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="trakflow"):
        for _ in range(2):
            with timed():
                log_seconds("count 5", 1.5)
        with pytest.raises(ValueError, match="failed"), timed("broken"):
            raise ValueError("failed")
    path = tmp_path / "job.log"
    path.write_text("something else\n" + "\n".join(caplog.messages), encoding="utf8")
    found = read_seconds(path)
    assert set(found) == {"job", "count 5"}
    assert found["count 5"] == [1.5, 1.5]
    assert len(found["job"]) == 2
    path.write_text("nothing of it", encoding="utf8")
    with pytest.raises(StoreError, match="says nothing of the seconds"):
        read_seconds(path)
    path.write_text("took: {", encoding="utf8")
    with pytest.raises(StoreError, match="cannot be read"):
        read_seconds(path)
