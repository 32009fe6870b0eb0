"""What must never be a silent result: interrupted, concurrent and mistaken use."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from traker_problem import BATCH, TARGETS, TRAIN, N, batches, checkpoints, featurize, model, score, scores, traker

from trakflow.errors import CheckpointError, ConfigError, DataError, NumericalError, StoreError


def small(folder, **arguments):
    return traker(folder, proj_dim=16, **arguments)


def finalized(folder, **arguments):
    attributor = featurize(small(folder, **arguments))
    attributor.finalize_features()
    return attributor


def test_the_loop_of_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from trakflow import TRAKer

    attributor = featurize(TRAKer(model=model(), task="image_classification", train_set_size=N))
    attributor.finalize_features()
    found = score(attributor)
    assert found.shape == (N, len(TARGETS[0]))
    assert (tmp_path / "trak_results").is_dir()
    assert attributor.proj_dim == 2048


def test_featurizing_resumes_in_the_middle_of_a_batch(tmp_path):
    whole = scores(tmp_path / "whole", proj_dim=16)
    halves = small(tmp_path / "halves")
    halves.load_checkpoint(checkpoints()[0], model_id=0)
    # Half of the second batch, out of order, then everything again by another object, as after a crash.
    halves.featurize(tuple(array[[13, 8, 11]] for array in TRAIN), inds=np.array([13, 8, 11]))
    resumed = featurize(small(tmp_path / "halves"))
    resumed.finalize_features()
    np.testing.assert_allclose(np.array(score(resumed)), whole, rtol=1e-4, atol=1e-7)


def test_what_is_there_is_not_computed_again(tmp_path, monkeypatch):
    featurize(small(tmp_path))
    again = small(tmp_path)
    again.load_checkpoint(checkpoints()[0], model_id=0)
    monkeypatch.setattr(again._loaded, "sketch", None)
    for batch in batches():
        again.featurize(batch, num_samples=len(batch[0]))


def test_a_record_that_was_cut_off_counts_as_never_written(tmp_path):
    whole = scores(tmp_path / "whole", proj_dim=16)
    featurize(small(tmp_path / "cut"))
    for model_id in (0, 1):
        (path,) = (tmp_path / "cut" / "features" / str(model_id) / "records").glob("*")
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(StoreError, match=r"32, 33, 34, 35, 36 and more are missing \(8 of 40\)"):
        small(tmp_path / "cut").finalize_features()
    resumed = featurize(small(tmp_path / "cut"))
    resumed.finalize_features()
    np.testing.assert_array_equal(np.array(score(resumed)), whole)


def test_a_damaged_record_is_found(tmp_path):
    featurize(small(tmp_path))
    path = next((tmp_path / "features" / "0" / "records").glob("*"))
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="checksum"):
        small(tmp_path).finalize_features()


def test_a_full_disk_loses_nothing_that_was_written(tmp_path, monkeypatch):
    attributor = small(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    first, second = batches()[:2]
    attributor.featurize(first, num_samples=BATCH)
    original = Path.open

    class Full:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, content):
            if len(content) > 10:
                return self._file.write(content[:10])
            raise OSError(28, "No space left on device")

    def opened(path, mode="r", *args, **kwargs):
        file = original(path, mode, *args, **kwargs)
        return Full(file) if mode == "ab" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(StoreError, match="No space left on device"):
            attributor.featurize(second, num_samples=BATCH)
    # The part of a record was taken back, so that the next one can be read.
    for batch in batches()[1:]:
        attributor.featurize(batch, num_samples=BATCH)
    attributor.finalize_features([0])


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from traker_problem import BATCH, TRAIN, batches, checkpoints, traker
import torch
torch.set_num_threads(1)
model_id, part, parts = map(int, sys.argv[2:])
attributor = traker(sys.argv[1], proj_dim=16)
attributor.load_checkpoint(checkpoints()[model_id], model_id=model_id)
for number, batch in enumerate(batches()):
    if number % parts == part:
        attributor.featurize(batch, inds=torch.arange(number * BATCH, number * BATCH + len(batch[0])))
"""


def test_processes_featurize_models_and_ranges_of_one_model_at_once(tmp_path):
    whole = scores(tmp_path / "whole", proj_dim=16)
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    # Three take turns with the batches of model 0, two do all of model 1.
    jobs = [("0", part, "3") for part in "012"] + [("1", "0", "1")] * 2
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "shared"), *job]) for job in jobs]
    assert [process.wait() for process in running] == [0] * len(jobs)
    attributor = small(tmp_path / "shared")
    assert attributor.model_ids == [0, 1]
    attributor.finalize_features()
    np.testing.assert_array_equal(np.array(score(attributor)), whole)


def test_processes_finalize_at_once(tmp_path):
    expected = scores(tmp_path / "alone", proj_dim=16)
    featurize(small(tmp_path / "shared"))
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from traker_problem import traker\n"
        "traker(sys.argv[1], proj_dim=16).finalize_features()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "shared")]) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert not list((tmp_path / "shared").rglob("*.records"))
    np.testing.assert_array_equal(np.array(score(small(tmp_path / "shared"))), expected)


def test_a_file_that_another_process_is_writing_is_no_shard(tmp_path):
    attributor = featurize(small(tmp_path))
    (tmp_path / "features" / "0" / ".0.abc123.safetensors").write_bytes(b"half")
    attributor.finalize_features()
    assert score(attributor).shape == (N, len(TARGETS[0]))


def test_a_loader_that_shuffles_is_found_with_the_second_model(tmp_path):
    attributor = small(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    attributor.featurize(TRAIN, num_samples=N)
    attributor.load_checkpoint(checkpoints()[1], model_id=1)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="does not shuffle"):
        attributor.featurize(tuple(array[order] for array in TRAIN), num_samples=N)


def test_augmented_inputs_are_taken_with_a_warning(tmp_path, caplog):
    attributor = small(tmp_path, logging_level=30)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    attributor.featurize(TRAIN, num_samples=N)
    attributor.load_checkpoint(checkpoints()[1], model_id=1)
    attributor.featurize((TRAIN[0] + 0.1, TRAIN[1]), num_samples=N)
    assert [record.levelname for record in caplog.records if "augment" in record.message] == ["WARNING"]
    attributor.finalize_features()


def test_models_of_different_data_are_not_averaged(tmp_path):
    states = checkpoints()
    first = small(tmp_path)
    first.load_checkpoint(states[0], model_id=0)
    first.featurize(TRAIN, num_samples=N)
    first.finalize_features([0])
    other = small(tmp_path)
    other.load_checkpoint(states[1], model_id=1)
    other.featurize((TRAIN[0], (TRAIN[1] + 1) % 3), num_samples=N)
    other.finalize_features([1])
    with pytest.raises(StoreError, match="data_content"):
        score(other)


def test_other_targets_need_another_name(tmp_path):
    attributor = finalized(tmp_path)
    score(attributor)
    attributor = small(tmp_path)
    attributor.start_scoring_checkpoint("other", checkpoints()[0], model_id=0, num_targets=len(TARGETS[0]))
    attributor.score(TARGETS, num_samples=len(TARGETS[0]))
    with pytest.raises(DataError, match="another exp_name"):
        attributor.score((TARGETS[0] + 1, TARGETS[1]), inds=np.arange(len(TARGETS[0])))
    with pytest.raises(DataError, match="has 6 targets"):
        attributor.start_scoring_checkpoint("test", checkpoints()[0], model_id=0, num_targets=5)


def test_other_targets_are_no_stale_scores_after_they_were_finalized(tmp_path):
    expected = np.array(score(finalized(tmp_path)))
    with pytest.raises(DataError, match="another exp_name"):
        score(small(tmp_path), arrays=(TARGETS[0] + 1, TARGETS[1]))
    np.testing.assert_array_equal(score(small(tmp_path)), expected)


def test_other_training_examples_are_no_stale_features_after_they_were_finalized(tmp_path, caplog):
    finalized(tmp_path)
    with pytest.raises(DataError, match="another save_dir"):
        featurize(small(tmp_path), arrays=(TRAIN[0], (TRAIN[1] + 1) % 3))
    featurize(small(tmp_path, logging_level=30), arrays=(TRAIN[0] * 3, TRAIN[1]))
    assert [record.levelname for record in caplog.records if "augment" in record.message] == ["WARNING"]


@pytest.mark.parametrize("again", [False, True], ids=["same_process", "another_process"])
def test_targets_in_another_order_for_another_model_are_refused(tmp_path, again):
    """By their inputs: labels alone, of one class here, would be the same."""
    attributor, size = finalized(tmp_path), len(TARGETS[0])
    labels = torch.zeros_like(TARGETS[1])
    attributor.start_scoring_checkpoint("test", checkpoints()[0], model_id=0, num_targets=size)
    attributor.score((TARGETS[0], labels), num_samples=size)
    if again:
        attributor = small(tmp_path)
    attributor.start_scoring_checkpoint("test", checkpoints()[1], model_id=1, num_targets=size)
    with pytest.raises((DataError, StoreError), match=r"another exp_name|data_content"):  # noqa: PT012
        attributor.score((TARGETS[0].flip(0), labels), num_samples=size)
        attributor.finalize_scores("test")


@pytest.mark.parametrize("model_id", [-1, 1.5, "0", True, None])
def test_a_model_id_is_a_number_from_zero(tmp_path, model_id):
    with pytest.raises(ConfigError, match="model_id"):
        small(tmp_path).load_checkpoint(checkpoints()[0], model_id=model_id)


def test_an_unknown_model_id_is_named_with_those_there_are(tmp_path):
    attributor = finalized(tmp_path)
    for call in (
        lambda: attributor.finalize_features([7]),
        lambda: attributor.start_scoring_checkpoint("test", checkpoints()[0], model_id=7, num_targets=6),
    ):
        with pytest.raises(StoreError, match=r"model_id=7 is unknown .* 0, 1"):
            call()
    score(attributor)
    with pytest.raises(StoreError, match="model_id=7 is unknown"):
        attributor.finalize_scores("test", model_ids=[0, 7])


def test_features_that_are_not_complete_are_no_features(tmp_path):
    attributor = small(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    attributor.featurize(batches()[0], num_samples=BATCH)
    with pytest.raises(StoreError, match=r"32 of 40\); call featurize"):
        attributor.finalize_features()
    with pytest.raises(StoreError, match="call finalize_features first"):
        attributor.start_scoring_checkpoint("test", checkpoints()[0], model_id=0, num_targets=6)


def test_targets_that_are_not_complete_are_no_targets(tmp_path, caplog):
    attributor = finalized(tmp_path, logging_level=30)
    attributor.start_scoring_checkpoint("test", checkpoints()[0], model_id=0, num_targets=6)
    attributor.score(TARGETS, num_samples=6)
    attributor.start_scoring_checkpoint("test", checkpoints()[1], model_id=1, num_targets=6)
    attributor.score(tuple(array[:4] for array in TARGETS), num_samples=4)
    with pytest.raises(StoreError, match=r"targets 4, 5 are missing \(2 of 6\); call score"):
        attributor.finalize_scores("test")
    skipped = np.array(attributor.finalize_scores("test", allow_skip=True))
    assert "model_id=1 is skipped" in caplog.text
    np.testing.assert_array_equal(skipped, np.array(attributor.finalize_scores("test", model_ids=[0])))


def test_a_checkpoint_that_differs_from_the_one_featurized_is_refused(tmp_path):
    attributor = finalized(tmp_path)
    first, second = checkpoints()
    with pytest.raises(CheckpointError, match="model_id=0"):
        attributor.start_scoring_checkpoint("test", second, model_id=0, num_targets=6)
    with pytest.raises(CheckpointError, match="model_id=1 was featurized by another checkpoint"):
        attributor.load_checkpoint(first, model_id=1)
    with pytest.raises(ConfigError, match="Call load_checkpoint before featurize"):
        attributor.featurize(TRAIN, num_samples=N)


def test_a_checkpoint_of_another_architecture_or_with_nan_is_refused(tmp_path):
    state = checkpoints()[0]
    name = next(iter(state))
    with pytest.raises(CheckpointError, match="architecture"):
        small(tmp_path).load_checkpoint({**state, "extra": torch.zeros(1)}, model_id=0)
    with pytest.raises(CheckpointError, match="NaN"):
        small(tmp_path).load_checkpoint({**state, name: state[name] * float("nan")}, model_id=0)
    assert small(tmp_path).model_ids == []


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"proj_dim": 32}, "'k'|k is 32"),
        ({"projector": "sjlt"}, "name is 'sjlt'"),
        ({"projector_seed": 1}, "seed is 1"),
        ({"use_half_precision": True}, "dtype"),
        ({"grad_wrt": ["layers.0.weight"]}, "parameters"),
        ({"train_set_size": N + 1}, "train_set_size"),
    ],
)
def test_changed_settings_are_refused(tmp_path, changed, name):
    finalized(tmp_path)
    if "grad_wrt" in changed:
        changed = {"grad_wrt": [next(iter(dict(model().named_parameters())))]}
    with pytest.raises(ConfigError, match=name):
        traker(tmp_path, **{"proj_dim": 16, **changed})


def test_another_ridge_needs_no_features_again(tmp_path):
    score(finalized(tmp_path))
    other = small(tmp_path, lambda_reg=1.0)
    # Without W the Gram matrix is another one, which is made where it is asked for.
    with pytest.raises(StoreError, match="finalize_features"):
        other.finalize_scores("test")
    other.finalize_features()
    found = np.array(other.finalize_scores("test"))
    np.testing.assert_allclose(found, scores(tmp_path / "fresh", proj_dim=16, lambda_reg=1.0), rtol=1e-5, atol=1e-9)


def test_a_folder_that_is_not_to_be_loaded_is_not_overwritten(tmp_path):
    featurize(small(tmp_path))
    fresh = small(tmp_path, load_from_save_dir=False)
    with pytest.raises(ConfigError, match="load_from_save_dir"):
        fresh.load_checkpoint(checkpoints()[0], model_id=0)
    fresh.load_checkpoint(checkpoints()[0], model_id=0, _allow_featurizing_already_registered=True)
    fresh.load_checkpoint(checkpoints(3)[2], model_id=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "either inds"),
        ({"inds": [0], "num_samples": 8}, "either inds"),
        ({"num_samples": 7}, "num_samples says 7, but the batch holds 8"),
        ({"inds": [0, 1]}, "inds says 2"),
        ({"inds": [0, 0, 1, 2, 3, 4, 5, 6]}, "twice"),
        ({"inds": list(range(36, 44))}, "from training example 36 to 43, but there are 40"),
        ({"inds": [0.5] * 8}, "integers"),
    ],
)
def test_numbers_that_do_not_fit_the_batch_are_refused(tmp_path, call, message):
    attributor = small(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    with pytest.raises(DataError, match=message):
        attributor.featurize(batches()[0], **call)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.zeros(2, 5),), "takes 2: inputs, labels"),
        ((torch.zeros(2, 5), torch.zeros(3).long()), "same number"),
        ((torch.zeros(2, 5), "ab"), "not a tensor"),
        (7, "must be a tuple"),
        ((torch.zeros(0, 5), torch.zeros(0).long()), "at least one"),
    ],
)
def test_batches_that_are_none_are_refused(tmp_path, batch, message):
    attributor = small(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    with pytest.raises(DataError, match=message):
        attributor.featurize(batch, num_samples=2)


def test_nan_names_the_example_and_keeps_what_was_before(tmp_path):
    attributor = small(tmp_path)
    attributor.load_checkpoint(checkpoints()[0], model_id=0)
    attributor.featurize(batches()[0], num_samples=BATCH)
    bad = batches()[1][0].clone()
    bad[3, 0] = float("nan")
    with pytest.raises(NumericalError, match="examples 11 are NaN"):
        attributor.featurize((bad, batches()[1][1]), num_samples=BATCH)
    # The cursor did not move, so that the repaired batch has the same numbers.
    attributor.featurize(batches()[1], num_samples=BATCH)
    assert attributor._loaded.rows.missing(np.arange(16)).sum() == 0


def test_a_target_that_was_nan_can_be_repaired(tmp_path):
    attributor = finalized(tmp_path)
    attributor.start_scoring_checkpoint("test", checkpoints()[0], model_id=0, num_targets=len(TARGETS[0]))
    bad = TARGETS[0].clone()
    bad[2, 0] = float("nan")
    with pytest.raises(NumericalError, match="examples 2 are NaN"):
        attributor.score((bad, TARGETS[1]), num_samples=len(bad))
    attributor.score(TARGETS, num_samples=len(bad))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"saver": object}, "saver must be None"),
        ({"score_computer": object}, "score_computer must be None"),
        ({"gradient_computer": object}, "projector='sjlt'"),
        ({"task": "segmentation"}, "'segmentation' is unknown"),
        ({"task": object()}, "get_output"),
        ({"projector": "hadamard"}, "tensor_sketch"),
        ({"projector": object()}, "proj_dim"),
        ({"projector": "identity", "proj_dim": 3}, "leave proj_dim=3 out"),
        ({"proj_dim": 0}, "proj_dim=0 must be"),
        ({"projector": "factorized"}, "a smaller proj_dim"),
        ({"train_set_size": 0}, "train_set_size"),
        ({"proj_max_batch_size": 0}, "proj_max_batch_size"),
        ({"grad_wrt": ["nothing.weight"]}, "nothing.weight"),
        ({"lambda_reg": -1.0}, "lambda_reg"),
        ({"lambda_reg": 1.0, "relative_ridge": 1.0}, "not both"),
    ],
)
def test_arguments_that_can_mean_nothing_are_refused(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        traker(tmp_path, **arguments)


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    attributor = finalized(tmp_path)
    with pytest.raises(ConfigError, match="exp_name"):
        attributor.start_scoring_checkpoint(name, checkpoints()[0], model_id=0, num_targets=6)
    with pytest.raises(ConfigError, match="exp_name"):
        attributor.finalize_scores(name)
