"""A small model of images and captions, which maps both to one space; called and read as open_clip's are."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from trakflow.errors import ConfigError
from trakflow.models.mlp import MLP

# Where CLIP's stops (Radford et al. 2021, section 2.5).
LARGEST_SCALE = 100.0


class ImageText(nn.Module):
    """A multilayer perceptron for images, and for captions one on the mean of their words' vectors.

    Args:
        inputs: Number of pixels of an image.
        vocabulary: Number of different tokens; 0 pads.
        embedding: Size d of the common space.
        image_widths: Hidden widths for images.
        text_widths: Hidden widths for captions.
        word: Size of a word's vector.
        temperature: What training begins with; CLIP's is 0.07.
    """

    def __init__(
        self,
        inputs: int,
        vocabulary: int,
        embedding: int = 32,
        image_widths: Sequence[int] = (128,),
        text_widths: Sequence[int] = (64,),
        word: int = 64,
        temperature: float = 0.07,
    ):
        super().__init__()
        if vocabulary < 2:
            raise ConfigError(f"model.vocabulary={vocabulary}; there must be a word beside the padding.")
        self.image = MLP(inputs, image_widths, embedding)
        self.words = nn.Embedding(vocabulary, word, padding_idx=0)
        self.text = MLP(word, text_widths, embedding)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def encode_image(self, image: Float[Tensor, "batch ..."], normalize: bool = False) -> Float[Tensor, "batch d"]:
        """Return an embedding of each image, of length one where `normalize`."""
        found = self.image(image)
        return functional.normalize(found, dim=-1) if normalize else found

    def encode_text(self, text: Int[Tensor, "batch tokens"], normalize: bool = False) -> Float[Tensor, "batch d"]:
        """Return an embedding of each caption, of length one where `normalize`."""
        vectors = self.words(text)
        seen = (text != 0).unsqueeze(-1).to(vectors.dtype)
        found = self.text((vectors * seen).sum(dim=-2) / seen.sum(dim=-2).clamp(min=1))
        return functional.normalize(found, dim=-1) if normalize else found

    def forward(
        self, image: Float[Tensor, "batch ..."], text: Int[Tensor, "batch tokens"]
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, "batch d"], Float[Tensor, ""]]:
        """Return image embeddings, text embeddings, both of length one, and exp(logit_scale), at most 100."""
        scale = self.logit_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
        return self.encode_image(image, normalize=True), self.encode_text(text, normalize=True), scale
