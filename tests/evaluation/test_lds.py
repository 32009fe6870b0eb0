import numpy as np
import pytest
from scipy.stats import spearmanr

from trakflow.errors import DataError
from trakflow.evaluation.lds import check_evaluation, lds, lds_interval, noise_ceiling, predicted_outputs


def pearson_to_spearman(correlation):
    """Of a bivariate normal distribution."""
    return 6 / np.pi * np.arcsin(correlation / 2)


def correlated(subsets, targets, correlation, seed=0):
    """Two arrays whose columns have the given Pearson correlation."""
    random = np.random.default_rng(seed)
    left, noise = random.standard_normal((2, subsets, targets))
    return left, correlation * left + np.sqrt(1 - correlation**2) * noise


def test_a_case_computed_by_hand():
    scores = np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 0.0]])
    masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=bool)
    predicted = predicted_outputs(scores, masks)
    assert predicted.tolist() == [[3, 1], [5, 0], [6, 1]]
    # Target 0: ranks 1 2 3 against 1 3 2, rho = 1 - 6 * 2 / 24 = .5. Target 1: ranks 2.5 1 2.5 against 2 1 3, centred
    # (.5, -1, .5) and (0, -1, 1): 1.5 / sqrt(1.5 * 2) = .866.
    actual = np.array([[0.1, 0.2], [0.9, 0.1], [0.5, 0.3]])
    assert lds(predicted, actual) == pytest.approx((0.5 + 0.75**0.5) / 2)


def test_equal_to_scipys_spearman_averaged_over_targets():
    random = np.random.default_rng(0)
    scores, masks = random.standard_normal((50, 8)), random.random((30, 50)) < 0.5
    actual = random.standard_normal((30, 8)) + masks @ scores
    expected = [
        spearmanr([scores[mask, target].sum() for mask in masks], actual[:, target]).statistic for target in range(8)
    ]
    assert lds(predicted_outputs(scores, masks), actual) == pytest.approx(np.mean(expected), abs=1e-12)


def test_a_perfect_a_reversed_and_an_unrelated_prediction():
    left, right = correlated(400, 50, 0.0)
    assert lds(left, np.exp(left)) == pytest.approx(1)
    assert lds(left, -(left**3)) == pytest.approx(-1)
    # Standard error of the mean of 50 correlations over 400 subsets.
    assert abs(lds(left, right)) < 4 / np.sqrt(400 * 50)


def interval(predicted, actual, resamples=300, confidence=0.9, seed=0):
    return lds_interval(predicted, actual, resamples, confidence, seed)


def test_the_interval_holds_the_estimate_and_the_truth_and_widens_with_confidence():
    left, right = correlated(300, 30, 0.7)
    found = interval(left, right)
    assert found.value == lds(left, right)
    assert found.low < found.value < found.high
    assert found.low < pearson_to_spearman(0.7) < found.high
    wider = interval(left, right, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_the_interval_is_a_function_of_the_seed():
    left, right = correlated(40, 10, 0.5)
    assert interval(left, right, seed=3) == interval(left, right, seed=3)
    assert interval(left, right, seed=3) != interval(left, right, seed=4)


def test_more_subsets_or_more_targets_narrow_the_interval_by_the_root_of_their_number():
    widths = {}
    for subsets, targets in ((40, 20), (160, 20), (40, 320)):
        found = interval(*correlated(subsets, targets, 0.5), resamples=600)
        widths[subsets, targets] = found.high - found.low
    assert widths[160, 20] == pytest.approx(widths[40, 20] / 2, rel=0.3)
    assert widths[40, 320] < 0.5 * widths[40, 20]


def test_equal_seeds_draw_the_same_subsets_and_targets_for_every_method():
    left, right = correlated(40, 10, 0.5)
    assert interval(np.exp(left), right) == interval(left, right)


def test_the_interval_agrees_with_a_bootstrap_written_as_two_loops():
    left, right = correlated(25, 6, 0.6)
    random = np.random.default_rng(123)
    values = []
    for _ in range(1000):
        rows, columns = random.integers(0, 25, 25), random.integers(0, 6, 6)
        values.append(np.mean([spearmanr(left[rows, column], right[rows, column]).statistic for column in columns]))
    low, high = np.quantile(values, [0.05, 0.95])
    found = interval(left, right, resamples=1000)
    # Quantiles of 1,000 resamples scatter by about a thirtieth of the width.
    assert found.low == pytest.approx(low, abs=0.12 * (high - low))
    assert found.high == pytest.approx(high, abs=0.12 * (high - low))


def test_a_target_drawn_twice_counts_twice():
    # Correlations of 1, 1 and -1 in any resample of the subsets. Their mean over three draws is -1, -1/3, 1/3 or 1 with
    # probabilities of 1, 6, 12 and 8 out of 27, so the quantiles at .35 and .65 are 1/3.
    left = np.tile(np.random.default_rng(0).standard_normal((20, 1)), 3)
    found = interval(left, left * [1, 1, -1], resamples=3000, confidence=0.3)
    assert (found.low, found.high) == pytest.approx((1 / 3, 1 / 3))
    wider = interval(left, left * [1, 1, -1], resamples=3000, confidence=0.8)
    assert (wider.low, wider.high) == pytest.approx((-1 / 3, 1))


@pytest.mark.parametrize("retrains", [2, 3, 5])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_the_ceiling_of_gaussian_outputs_is_the_closed_form_and_what_the_truth_reaches(retrains, noise):
    random = np.random.default_rng(0)
    signal = random.standard_normal((3000, 20))
    outputs = signal + noise * random.standard_normal((retrains, 3000, 20))
    r = pearson_to_spearman(1 / (1 + noise**2))
    closed_form = np.sqrt(retrains * r / (1 + (retrains - 1) * r))
    assert noise_ceiling(outputs) == pytest.approx(closed_form, abs=0.01)
    # The true signal against the mean of the retrains.
    assert noise_ceiling(outputs) == pytest.approx(lds(signal, outputs.mean(axis=0)), abs=0.02)


def test_the_ceiling_without_noise_with_noise_only_and_unknown():
    random = np.random.default_rng(0)
    signal = random.standard_normal((30, 4))
    assert noise_ceiling(np.stack([signal, 2 * signal + 1])) == pytest.approx(1)
    assert noise_ceiling(np.stack([signal, -signal])) == 0
    assert np.isnan(noise_ceiling(signal[None]))


def arguments(**changed):
    random = np.random.default_rng(0)
    values = {"masks": random.random((5, 8)) < 0.5, "outputs": random.standard_normal((2, 5, 3)), "n": 8, "m": 3}
    return values | changed


def test_what_belongs_to_the_experiment_passes():
    check_evaluation(**arguments())
    check_evaluation(**arguments(masks=np.ones((5, 8), dtype=np.int64)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 9}, r"masks have shape \(5, 8\); expected \(subsets, 9\)"),
        ({"masks": np.ones(8)}, r"masks have shape \(8,\)"),
        ({"masks": np.full((5, 8), 2)}, "other than 0 and 1"),
        ({"m": 4}, r"outputs have shape \(2, 5, 3\); expected \(retrains, 5 subsets, 4 targets\)"),
        ({"outputs": np.zeros((2, 6, 3))}, "expected"),
        ({"outputs": np.full((2, 5, 3), np.nan)}, "NaN or Inf"),
        ({"masks": np.ones((2, 8)), "outputs": np.ones((1, 2, 3))}, "at least 3 subsets, and there are 2"),
    ],
)
def test_what_does_not_belong_to_the_experiment_is_refused(changed, message):
    with pytest.raises(DataError, match=message):
        check_evaluation(**arguments(**changed))
