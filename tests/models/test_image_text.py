import pytest
import torch

from pairs import pairs, tiny_model
from trakflow.config.compose import compose_config
from trakflow.errors import ConfigError
from trakflow.models.image_text import ImageText
from trakflow.stages.common import model_factory


def test_embeddings_have_length_one_and_the_temperature_is_the_one_given():
    image, text, scale = ImageText(9, 11, embedding=6, temperature=0.25)(*pairs(5, 1, torch.float32).values())
    for found in (image, text):
        torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    assert float(scale.detach()) == pytest.approx(4)


def test_padding_changes_no_caption_and_words_do():
    model, tokens = tiny_model(), pairs(6, 1)["tokens"]
    found = model.encode_text(tokens)
    torch.testing.assert_close(model.encode_text(torch.nn.functional.pad(tokens, (0, 3))), found)
    other = tokens.clone()
    other[:, 0] = other[:, 0] % 10 + 1
    assert (model.encode_text(other) - found).abs().amax(dim=1).min() > 1e-6


def test_the_scale_stops_at_a_hundred():
    model = tiny_model()
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    assert float(model(*pairs(2, 1).values())[2].detach()) == pytest.approx(100)


def test_a_vocabulary_of_padding_alone_is_refused():
    with pytest.raises(ConfigError, match="a word beside the padding"):
        ImageText(9, 1)


def test_the_experiment_has_as_many_parameters_as_it_says():
    model = model_factory(compose_config("fashion_clip"))()
    assert sum(value.numel() for value in model.parameters()) == 113_153
