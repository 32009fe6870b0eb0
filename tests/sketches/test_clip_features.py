"""Features of image-text pairs: the same by every kind of sketch, in any batch, and of models as users have them."""

import pytest
import torch
from torch import nn

from pairs import LENGTH, VOCABULARY, pairs, tiny_model
from trakflow.config.attribution import Sketch
from trakflow.sketches.build import build_sketch
from trakflow.tasks.clip import CLIP
from trakflow.tasks.preparation import prepared

LAYERS = ["image.*", "words.*", "text.*"]


def plain_gradients(model, task, batch, parameters):
    """Of one example after another, without any sketch (examples x p)."""
    rows = []
    for row in range(len(batch["inputs"])):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        found = torch.autograd.grad(task.output(task.forward(model, one), one).sum(), parameters, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros(value.numel()).to(value) if gradient is None else gradient.flatten()
                    for gradient, value in zip(found, parameters, strict=True)
                ]
            )
        )
    return torch.stack(rows)


def sketched(settings, model, task, batch):
    sketch = build_sketch(Sketch(**settings), model, task, seed=0, checkpoint=0, device="cpu")
    return sketch(batch)


def test_identity_features_are_plain_gradients_and_the_temperature_has_one():
    model, batch = tiny_model(dtype=torch.float32), pairs(6, 1, torch.float32)
    task = prepared(CLIP(5), model, pairs(5, 2, torch.float32))
    found = sketched({"name": "identity"}, model, task, batch)
    expected = plain_gradients(model, task, batch, list(model.parameters()))
    torch.testing.assert_close(found.features, expected, rtol=1e-4, atol=1e-5)
    names = [name for name, value in model.named_parameters() for _ in range(value.numel())]
    assert (found.features[:, names.index("logit_scale")] != 0).all()
    raw = task.forward(model, batch)
    torch.testing.assert_close(found.outputs, task.output(raw, batch).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.loss_gradients, task.loss_gradient(raw, batch).detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.curvatures, task.curvature(raw, batch).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["tensor_sketch", "factorized"])
def test_hooked_features_do_not_depend_on_the_batch_and_keep_inner_products(name):
    model, batch = tiny_model(), pairs(6, 1)
    task = prepared(CLIP(5), model, pairs(5, 2))
    # As many features as there are entries in any gradient, so that what is random is small.
    settings = {"name": name, "parameters": LAYERS}
    settings |= {"k": 4096} if name == "tensor_sketch" else {"side": 32}
    whole = sketched(settings, model, task, batch)
    alone = [
        sketched(settings, model, task, {key: value[row : row + 1] for key, value in batch.items()}) for row in range(6)
    ]
    torch.testing.assert_close(torch.cat([one.features for one in alone]), whole.features, rtol=1e-8, atol=1e-10)
    parameters = [value for key, value in model.named_parameters() if key != "logit_scale"]
    expected = plain_gradients(model, task, batch, parameters)
    exact, found = expected @ expected.T, whole.features @ whole.features.T
    assert float((found - exact).norm() / exact.norm()) < 0.3


def random_clip():
    """The CLIP of transformers, as users have it, small and random."""
    transformers = pytest.importorskip("transformers")
    shared = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={
            **shared,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": LENGTH,
            "eos_token_id": 2,
            "bos_token_id": 1,
        },
        vision_config={**shared, "image_size": 6, "patch_size": 3},
        projection_dim=8,
    )
    config._attn_implementation = "eager"
    return transformers.CLIPModel(config).eval()


def images(count, seed):
    batch = pairs(count, seed, torch.float32)
    random = torch.Generator().manual_seed(seed)
    mask = (batch["tokens"] != 0).long()
    return {**batch, "inputs": torch.rand(count, 3, 6, 6, generator=random), "attention_mask": mask}


def test_the_clip_of_transformers_has_its_plain_gradients_and_its_temperature():
    model, batch = random_clip(), images(4, 1)
    task = prepared(CLIP(5, interface="transformers"), model, images(5, 2))
    parameters = dict(model.named_parameters())
    found = sketched({"name": "identity"}, model, task, batch)
    expected = plain_gradients(model, task, batch, list(parameters.values()))
    torch.testing.assert_close(found.features, expected.float(), rtol=1e-3, atol=1e-5)
    raw = task.forward(model, batch)
    image, text = raw[:, :8], raw[:, 8:16]
    returned = model(pixel_values=batch["inputs"], input_ids=batch["tokens"], attention_mask=batch["attention_mask"])
    torch.testing.assert_close(raw[0, -1] * image @ text.T, returned.logits_per_image, rtol=1e-4, atol=1e-5)


def test_the_clip_of_transformers_cannot_be_trained_here_and_it_is_said():
    from trakflow.errors import ConfigError

    task, batch = CLIP(interface="transformers"), images(4, 1)
    with pytest.raises(ConfigError, match="interface=transformers do not hold its temperature"):
        task.loss(task.forward(random_clip(), batch), batch)


def test_a_model_without_a_temperature_is_refused():
    from trakflow.errors import ConfigError

    model = random_clip()
    del model.logit_scale

    class Embeds(nn.Module):
        def forward(self, pixel_values, input_ids, attention_mask):
            from types import SimpleNamespace

            return SimpleNamespace(
                image_embeds=torch.zeros(len(input_ids), 2), text_embeds=torch.ones(len(input_ids), 2)
            )

    with pytest.raises(ConfigError, match="Embeds\\) has no parameter `logit_scale`"):
        prepared(CLIP(5, interface="transformers"), Embeds(), images(5, 2))


def test_the_clip_of_open_clip_has_its_plain_gradients():
    open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=8,
        vision_cfg=open_clip.CLIPVisionCfg(layers=1, width=16, head_width=8, image_size=6, patch_size=3),
        text_cfg=open_clip.CLIPTextCfg(context_length=LENGTH, vocab_size=VOCABULARY, width=16, heads=2, layers=1),
    ).eval()
    batch = images(4, 1)
    batch.pop("attention_mask")
    references = images(5, 2)
    references.pop("attention_mask")
    task = prepared(CLIP(5), model, references)
    found = sketched({"name": "identity"}, model, task, batch)
    expected = plain_gradients(model, task, batch, list(model.parameters()))
    torch.testing.assert_close(found.features, expected.float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["identity", "tensor_sketch"])
def test_a_model_in_half_precision_takes_data_in_single(name):
    half, batch = tiny_model(dtype=torch.bfloat16), pairs(6, 1, torch.float32)
    single = tiny_model(dtype=torch.bfloat16).float()
    settings = {"name": name, "parameters": LAYERS} | ({"k": 64} if name == "tensor_sketch" else {})
    found, expected = (
        sketched(settings, model, prepared(CLIP(5), model, pairs(5, 2, torch.float32)), batch)
        for model in (half, single)
    )
    assert found.outputs.dtype == found.loss_gradients.dtype == torch.float32
    torch.testing.assert_close(found.outputs, expected.outputs, rtol=0.1, atol=0.5)
    torch.testing.assert_close(found.loss_gradients, expected.loss_gradients, rtol=0.1, atol=0.1)
