import numpy as np
import pytest
import torch

from trakflow.models.mlp import MLP


@pytest.mark.parametrize("widths", [[], [7], [7, 3]])
def test_equal_to_matrix_products_with_relu_between(widths):
    torch.manual_seed(0)
    model = MLP(12, widths, 4)
    inputs = torch.randn(6, 1, 3, 4)
    values = inputs.numpy().reshape(6, 12).astype(np.float64)
    tensors = [value.double().numpy() for value in model.state_dict().values()]
    layers = list(zip(tensors[::2], tensors[1::2], strict=True))
    assert len(layers) == len(widths) + 1
    for number, (weight, bias) in enumerate(layers):
        values = np.maximum(values, 0) if number else values
        values = values @ weight.T + bias
    np.testing.assert_allclose(model(inputs).detach().numpy(), values, rtol=1e-5, atol=1e-5)


def test_the_digits_model_has_the_size_its_experiment_states():
    assert sum(value.numel() for value in MLP(64, [64, 32], 10).parameters()) == 6_570
    assert sum(value.numel() for value in MLP(784, [128, 64], 10).parameters()) == 109_386
