"""Models with LoRA, of the real peft: features by the adapters, and checkpoints that hold only them."""

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call

from trakflow import TRAKer
from trakflow.config.compose import compose_config
from trakflow.errors import CheckpointError, ConfigError, SketchError
from trakflow.models.mlp import MLP
from trakflow.models.weights import load_weights, read_state
from trakflow.sketches.build import build_sketch
from trakflow.tasks.classification import Classification

N = 6


def base(seed=0):
    torch.manual_seed(seed)
    return MLP(5, [4], 3)


def adapted(seed=0, **settings):
    """A base model that is always the same, with adapters that differ by seed."""
    model = base()
    torch.manual_seed(seed)
    chosen = {"r": 2, "target_modules": ["layers.1", "layers.3"], "lora_dropout": 0.3, **settings}
    model = peft.get_peft_model(model, peft.LoraConfig(**chosen))
    for name, value in model.named_parameters():
        if "lora_B" in name:  # PEFT begins with zeros, which would leave A without gradients
            nn.init.normal_(value)
    return model.eval()


def batch():
    generator = torch.Generator().manual_seed(1)
    return {"inputs": torch.randn(N, 5, generator=generator), "labels": torch.randint(3, (N,), generator=generator)}


def sketch(model, name, k=16):
    overrides = [f"sketch={name}", *(["sketch.k=null"] if name == "identity" else [f"sketch.k={k}"])]
    return build_sketch(compose_config("digits", overrides).sketch, model, Classification(), 0, 0, "cpu")


def output(model, parameters, row):
    one = {name: value[row : row + 1] for name, value in batch().items()}
    raw = functional_call(model, parameters, (one["inputs"],))
    return Classification().output(raw, one)[0]


def test_features_are_gradients_by_the_adapters_alone():
    model = adapted()
    found = sketch(model, "identity")(batch()).features
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in trained)
    assert len(trained) == 4
    for row in range(N):
        gradients = torch.autograd.grad(output(model, trained, row), list(trained.values()))
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_the_same_map_without_peft():
    """y = W x + (alpha / r) B A x, written out."""
    model, scale = adapted(), 8 / 2
    weights = {name.removeprefix("base_model.model."): value.detach() for name, value in model.named_parameters()}
    lora = {name: value.clone().requires_grad_() for name, value in weights.items() if "lora_" in name}

    def layer(number, inputs):
        a, b = (lora[f"layers.{number}.lora_{side}.default.weight"] for side in "AB")
        weight, bias = (weights[f"layers.{number}.base_layer.{kind}"] for kind in ("weight", "bias"))
        return inputs @ weight.T + bias + scale * inputs @ a.T @ b.T

    examples = batch()
    outputs = Classification().output(layer(3, torch.relu(layer(1, examples["inputs"]))), examples)
    found = sketch(model, "identity")(examples)
    torch.testing.assert_close(found.outputs, outputs.detach(), rtol=1e-5, atol=1e-6)
    for row in range(N):
        gradients = torch.autograd.grad(outputs[row], list(lora.values()), retain_graph=True)
        expected = torch.cat([gradient.flatten() for gradient in gradients])
        torch.testing.assert_close(found.features[row], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["tensor_sketch", "factorized"])
def test_hooked_sketches_cover_adapted_layers(name):
    """Their own check compares the rules with the model's gradients; a sketch keeps inner products in the mean."""
    extra = ["sketch.side=8"] if name == "factorized" else []
    settings = compose_config("digits", [f"sketch={name}", "sketch.k=null" if extra else "sketch.k=4096", *extra])
    found = build_sketch(settings.sketch, adapted(), Classification(), 0, 0, "cpu")(batch()).features
    exact = sketch(adapted(), "identity")(batch()).features
    expected = exact @ exact.T
    assert float((found @ found.T - expected).norm() / expected.norm()) < 0.5


def test_merged_adapters_are_refused_and_not_taken_for_zero():
    model = adapted()
    model.merge_adapter()
    with pytest.raises(SketchError, match="does not depend on any module whose parameters"):
        sketch(model, "tensor_sketch")(batch())


def test_adapters_of_embeddings_have_no_rule_and_the_error_says_what_to_do():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

        def forward(self, inputs):
            return self.head(self.embedding(inputs).mean(dim=1))

    model = peft.get_peft_model(Bag(), peft.LoraConfig(r=2, target_modules=["embedding"]))
    with pytest.raises(SketchError, match=r"lora_embedding_A.*no rule covers\. Two ways out.*sketch=sjlt"):
        sketch(model, "tensor_sketch")
    examples = {"inputs": torch.randint(7, (N, 5)), "labels": batch()["labels"]}
    assert sketch(model, "sjlt")(examples).features.shape == (N, 16)


def test_adapters_of_convolutions_have_rules():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 9, 3))
    model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0", "3"], init_lora_weights=False))
    images = {"inputs": torch.randn(N, 1, 5, 5), "labels": batch()["labels"]}
    # Before the first batch the sketch compares its gradients with plain ones.
    assert sketch(model, "tensor_sketch")(images).features.any()


def test_weight_decomposed_adapters_are_refused_by_the_rules_and_work_explicitly():
    model = adapted(use_dora=True)
    with pytest.raises(SketchError, match=r"sketch=sjlt"):
        sketch(model, "tensor_sketch")(batch())
    found = sketch(model, "identity")(batch()).features
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(output(model, trained, 0), list(trained.values()))
    expected = torch.cat([gradient.flatten() for gradient in gradients])
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-6)


def test_adapters_that_are_not_trainable_are_refused(tmp_path):
    adapted().save_pretrained(tmp_path)
    model = peft.PeftModel.from_pretrained(base(), tmp_path)
    with pytest.raises(ConfigError, match=r"requires_grad.*is_trainable=True"):
        sketch(model, "tensor_sketch")


def saved(model, folder, kind):
    """Save as users of PEFT do, and return the checkpoint."""
    if kind == "save_pretrained":
        model.save_pretrained(folder)
        return folder / "adapter_model.safetensors"
    if kind == "adapter_model.bin":
        torch.save(peft.get_peft_model_state_dict(model), folder / kind)
    else:
        torch.save(model.state_dict(), folder / kind)
    return folder / kind


@pytest.mark.parametrize("kind", ["save_pretrained", "adapter_model.bin", "everything.pt"])
def test_checkpoints_of_adapters_load(tmp_path, kind):
    trained, model = adapted(1), adapted(0)
    load_weights(model, read_state(saved(trained, tmp_path, kind)), "The checkpoint")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in trained.state_dict().items())


def test_modules_that_were_trained_whole_are_part_of_it(tmp_path):
    settings = {"target_modules": ["layers.1"], "modules_to_save": ["layers.3"]}
    trained, model = adapted(1, **settings), adapted(0, **settings)
    nn.init.normal_(trained.base_model.model.layers[3].modules_to_save["default"].weight)
    load_weights(model, read_state(saved(trained, tmp_path, "save_pretrained")), "The checkpoint")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in trained.state_dict().items())


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    state = load_file(saved(adapted(1), tmp_path, "save_pretrained"))
    with pytest.raises(CheckpointError, match=r"of another architecture.*has shape \(3, 5\), the model \(2, 5\)"):
        load_weights(adapted(0), load_file(saved(adapted(1, r=3), tmp_path, "save_pretrained")), "The checkpoint")
    with pytest.raises(CheckpointError, match=r"lora_A\.weight' is missing"):
        load_weights(adapted(0), dict(list(state.items())[1:]), "The checkpoint")
    with pytest.raises(CheckpointError, match=r"holds adapters of PEFT; make `model` the PEFT model"):
        load_weights(base(), state, "The checkpoint")
    with pytest.raises(CheckpointError, match=r"NaN or Inf in 'base_model.*lora_A"):
        load_weights(adapted(0), {name: value * float("nan") for name, value in state.items()}, "The checkpoint")
    with pytest.raises(CheckpointError, match=r"is a folder; give the file.*adapter_model\.safetensors"):
        read_state(tmp_path)


def test_traker_takes_adapters_and_tells_their_checkpoints_apart(tmp_path):
    states = [peft.get_peft_model_state_dict(adapted(seed)) for seed in (1, 2)]
    save_file(states[1], tmp_path / "adapter_model.safetensors")
    arguments = {"task": "image_classification", "train_set_size": N, "device": "cpu", "logging_level": 40}
    traker = TRAKer(adapted(), save_dir=tmp_path / "results", proj_dim=4, use_half_precision=False, **arguments)
    for model_id, checkpoint in enumerate((states[0], tmp_path / "adapter_model.safetensors")):
        traker.load_checkpoint(checkpoint, model_id)
        traker.featurize(batch(), num_samples=N)
    traker.finalize_features()
    found = read_features(tmp_path / "results")
    for model_id, seed in enumerate((1, 2)):
        settings = compose_config("digits", ["sketch.k=4"]).sketch
        expected = build_sketch(settings, adapted(seed), Classification(), 0, model_id, "cpu")(batch()).features
        torch.testing.assert_close(found[model_id], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(CheckpointError, match="featurized by another checkpoint"):
        traker.load_checkpoint(states[1], 0)


def read_features(folder):
    return [load_file(folder / "features" / str(model_id) / "0.safetensors")["features"] for model_id in (0, 1)]
