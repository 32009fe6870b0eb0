import numpy as np
import pytest
import torch

from trakflow.errors import ConfigError
from trakflow.tasks.regression import Regression

TASK = Regression()


def batch(count=50, shape=(1,)):
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(count, *shape, dtype=torch.float64, generator=random)
    return raw, {"values": torch.randn(count, dtype=torch.float64, generator=random)}


@pytest.mark.parametrize("shape", [(), (1,)])
def test_q_and_w_are_finite_differences_of_the_loss_by_f(shape):
    raw, values = batch(shape=shape)
    step = 1e-4
    up, here, down = (TASK.loss(raw + by, values) for by in (step, 0.0, -step))
    assert up.shape == (50,)
    moved = TASK.output(raw + step, values) - TASK.output(raw - step, values)
    torch.testing.assert_close(moved, torch.full_like(here, 2 * step), rtol=1e-8, atol=0)
    first, second = (up - down) / (2 * step), (up - 2 * here + down) / step**2
    q, w = TASK.loss_gradient(raw, values), TASK.curvature(raw, values)
    assert q.dtype == w.dtype == torch.float32
    torch.testing.assert_close(q.double(), -first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(w.double(), second, rtol=1e-5, atol=1e-6)


def test_loss_is_half_the_squared_error():
    raw, values = batch()
    expected = 0.5 * (raw.numpy()[:, 0] - values["values"].numpy()) ** 2
    np.testing.assert_allclose(TASK.loss(raw, values).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_q_of_a_half_precision_model_keeps_the_digits_of_the_values(dtype):
    q = TASK.loss_gradient(torch.ones(1, 1, dtype=dtype), {"values": torch.tensor([1.0001])})
    assert float(q[0]) == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("shape", [(1, 2), (2,), (1, 1, 3)])
def test_a_model_with_more_than_one_output_is_refused(shape):
    with pytest.raises(ConfigError, match="one number an example"):
        TASK.check(torch.zeros(shape), None)


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_a_model_with_one_output_is_taken(shape):
    TASK.check(torch.zeros(shape), None)


def test_examples_without_values_are_refused_by_name():
    with pytest.raises(ConfigError, match="`values`, one real number an example, but the examples have inputs, labels"):
        TASK.forward(torch.nn.Linear(2, 1), {"inputs": torch.zeros(1, 2), "labels": torch.zeros(1)})
