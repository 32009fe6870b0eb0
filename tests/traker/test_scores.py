"""Scores of the class against the formula in float64 and against the paper's own library."""

import inspect

import numpy as np
import pytest
import torch
from trak import TRAKer as PapersTRAKer
from trak.projectors import BasicProjector, NoOpProjector, ProjectionType
from traker_problem import TARGETS, TRAIN, N, checkpoints, dense_scores, mean_diagonal, model, score, scores, traker

import trakflow
from trakflow import TRAKer
from trakflow.errors import ConfigError, NumericalError

PARAMETERS = sum(value.numel() for value in model().parameters())


def test_by_default_the_ridge_is_relative_and_rows_are_weighted(tmp_path):
    found = scores(tmp_path, projector="identity")
    np.testing.assert_allclose(found, dense_scores(checkpoints(), mean_diagonal, weighted=True), rtol=1e-3, atol=1e-6)


def test_a_relative_ridge_is_in_units_of_the_mean_diagonal(tmp_path):
    found = scores(tmp_path, projector="identity", relative_ridge=0.2)
    expected = dense_scores(checkpoints(), lambda gram: 0.2 * mean_diagonal(gram), weighted=True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_lambda_is_in_the_librarys_unit_and_leaves_weights_out(tmp_path):
    found = scores(tmp_path, projector="identity", lambda_reg=0.01)
    expected = dense_scores(checkpoints(), lambda gram: 0.01 * PARAMETERS, weighted=False)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_lambda_is_the_librarys_for_a_projection_of_ours_too(tmp_path):
    # Of E[(k / p) G] = (k / p) grad^T grad, so that with ever more features the scores are those without projection.
    exact = scores(tmp_path / "exact", projector="identity", lambda_reg=0.05 / 4096)
    found = scores(tmp_path / "found", projector="gaussian", proj_dim=4096, lambda_reg=0.05)
    assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.98
    assert np.abs(found).sum() / np.abs(exact).sum() == pytest.approx(1, abs=0.1)


def test_half_precision_changes_scores_by_rounding_only(tmp_path):
    full = scores(tmp_path / "full", proj_dim=64)
    half = scores(tmp_path / "half", proj_dim=64, use_half_precision=True)
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, atol=5e-3 * np.abs(full).max())


@pytest.mark.parametrize("factor", [1e6, 1e-9])
def test_features_too_large_or_small_for_half_precision_are_refused(tmp_path, factor):
    # Gradients by the first layer are proportional to the weights of the last one.
    first, last = (name for name, value in model().named_parameters() if value.ndim == 2)
    state = {name: value * (factor if name == last else 1) for name, value in checkpoints()[0].items()}
    attributor = traker(tmp_path, use_half_precision=True, projector="identity", grad_wrt=[first])
    attributor.load_checkpoint(state, model_id=0)
    with pytest.raises(NumericalError, match="use_half_precision=False"):
        attributor.featurize(TRAIN, num_samples=N)


def test_batches_are_cut_to_what_is_allowed_without_a_difference(tmp_path):
    whole = scores(tmp_path / "whole", proj_dim=32)
    cut = scores(tmp_path / "cut", proj_dim=32, proj_max_batch_size=3)
    np.testing.assert_allclose(cut, whole, rtol=1e-4, atol=1e-7)


def test_gradients_by_some_parameters_are_those_columns(tmp_path):
    name = next(iter(dict(model().named_parameters())))
    attributor = traker(tmp_path, projector="identity", grad_wrt=[name])
    assert attributor.proj_dim == dict(model().named_parameters())[name].numel()


@pytest.mark.filterwarnings("ignore")
# Without projection p is larger than n, and a ridge of 0 leaves no solution.
@pytest.mark.parametrize(("projected", "ridge"), [(True, 0.0), (True, 1e-4), (True, 1.0), (False, 1e-4), (False, 1.0)])
def test_scores_are_proportional_to_the_papers_library_with_its_own_matrix(tmp_path, projected, ridge):
    def projector():
        if not projected:
            return NoOpProjector(device="cpu")
        return BasicProjector(PARAMETERS, 16, 0, ProjectionType.normal, "cpu", block_size=8)

    state = checkpoints(1)
    arguments = {"lambda_reg": ridge, "projector": projector()}
    theirs = scores(tmp_path / "theirs", state, cls=PapersTRAKer, **arguments)
    ours = scores(tmp_path / "ours", state, lambda_reg=ridge, projector=projector())
    # It rescales its inverse by one number a model; ours keep the scale of the formula. Its inverse is of float32.
    np.testing.assert_allclose(theirs, np.median(theirs / ours) * ours, atol=2e-3 * np.abs(theirs).max(), rtol=0)


def test_the_librarys_methods_take_the_same_arguments_in_the_same_order():
    for name in ("__init__", "load_checkpoint", "featurize", "finalize_features", "start_scoring_checkpoint", "score"):
        theirs = list(inspect.signature(getattr(PapersTRAKer, name)).parameters)
        ours = list(inspect.signature(getattr(TRAKer, name)).parameters)
        assert ours[: len(theirs)] == theirs, name
    assert list(inspect.signature(TRAKer.finalize_scores).parameters) == [
        "self",
        "exp_name",
        "model_ids",
        "allow_skip",
    ]


def test_the_installation_can_be_tried(capsys):
    trakflow.test_install()
    assert "trakflow works on" in capsys.readouterr().out
    if not torch.cuda.is_available():
        with pytest.raises(trakflow.errors.DeviceError, match=r"GPU|fast_jl"):
            trakflow.test_install(use_fast_jl=True)


def test_a_ridge_of_zero_needs_fewer_features_than_examples(tmp_path):
    with pytest.raises(ConfigError, match="proj_dim=64"):
        traker(tmp_path, proj_dim=64, lambda_reg=0.0)


def test_scores_of_some_models_are_their_mean(tmp_path):
    states = checkpoints(3)
    scores(tmp_path, states, proj_dim=32)
    attributor = traker(tmp_path, proj_dim=32)
    some = np.array(attributor.finalize_scores("test", model_ids=[0, 2]))
    alone = scores(tmp_path / "alone", [states[0]], proj_dim=32)
    assert not np.allclose(some, alone)
    np.testing.assert_array_equal(np.array(attributor.finalize_scores("test", model_ids=[0])), alone)


def test_scores_are_in_a_file_of_the_workflows_form(tmp_path):
    found = scores(tmp_path, proj_dim=32)
    np.testing.assert_array_equal(np.load(tmp_path / "scores" / "test.npy"), found)
    assert found.dtype == np.float32
    assert found.shape == (N, len(TARGETS[0]))


def test_more_targets_under_another_name_need_no_features_again(tmp_path):
    scores(tmp_path, proj_dim=32)
    attributor = traker(tmp_path, proj_dim=32)
    again = score(
        attributor, arrays=tuple(value[:2] for value in (torch.randn(4, 5), torch.zeros(4).long())), name="two"
    )
    assert again.shape == (N, 2)
