import torch

from trakflow.models.refining_mlp import RefiningMLP


def test_each_iteration_applies_the_same_layer_to_the_example_and_the_last_state():
    torch.manual_seed(0)
    model = RefiningMLP(inputs=6, width=5, outputs=3, iterations=4)
    inputs = torch.randn(7, 2, 3)
    found = model(inputs)
    assert found.shape == (7, 4, 3)
    weights = {name: value.double() for name, value in model.state_dict().items()}
    example = inputs.reshape(7, 6).double() @ weights["first.weight"].T + weights["first.bias"]
    state = torch.zeros(7, 5, dtype=torch.float64)
    for iteration in range(4):
        state = torch.tanh(example + state @ weights["again.weight"].T + weights["again.bias"])
        expected = state @ weights["logits.weight"].T + weights["logits.bias"]
        torch.testing.assert_close(found[:, iteration].double(), expected, atol=1e-5, rtol=1e-5)
