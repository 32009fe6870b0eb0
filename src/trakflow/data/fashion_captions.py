"""Fashion-MNIST with captions, generated from an image's class and from what its pixels look like."""

import numpy as np
from jaxtyping import Float32, Int64

from trakflow.data import fashion_mnist
from trakflow.data.examples import Examples
from trakflow.seeds import generator

# Two words for each class, of which a caption has one.
NOUNS = (
    ("t-shirt", "tee"),
    ("trousers", "pants"),
    ("pullover", "sweater"),
    ("dress", "frock"),
    ("coat", "jacket"),
    ("sandal", "slipper"),
    ("shirt", "blouse"),
    ("sneaker", "trainer"),
    ("bag", "handbag"),
    ("boot", "bootee"),
)
TONES = ("light", "grey", "dark")
SURFACES = ("plain", "patterned")
TEMPLATES = (
    "a photo of a {tone} {surface} {noun}",
    "one {noun} , {tone} and {surface}",
    "{surface} {noun} in a {tone} colour",
    "the {noun} is {tone} and {surface}",
)
# Every word of a caption, after the padding 0.
WORDS = tuple(
    dict.fromkeys(
        word
        for text in (*(noun for pair in NOUNS for noun in pair), *TONES, *SURFACES, *TEMPLATES)
        for word in text.split()
        if not word.startswith("{")
    )
)
LENGTH = max(len(template.split()) for template in TEMPLATES)

# An image's pixels are ink, 0 to 1: the mean of those that are not paper says how dark, their spread how patterned.
PAPER = 0.1
DARKNESS = (0.5, 0.7)
SPREAD = 0.19


def train(size: int = 2000, folder: str | None = None, cache: str = "results/downloads/fashion_mnist") -> Examples:
    """Return `size` training images with captions; arguments as for `trakflow.data.fashion_mnist.train`.

    Returns:
        inputs (size x 1 x 28 x 28, float32 in [0, 1]) and tokens (size x 7, int64: numbers of `WORDS` from 1, padded by
        0); the captions as texts, the names of the classes as groups. A caption is a function of the image alone.
    """
    return _captioned(fashion_mnist.train(size, folder, cache))


def targets(size: int = 300, folder: str | None = None, cache: str = "results/downloads/fashion_mnist") -> Examples:
    """Return `size` test images with captions; as `train`."""
    return _captioned(fashion_mnist.targets(size, folder, cache))


def _captioned(examples: Examples) -> Examples:
    inputs = examples.arrays["inputs"]
    labels = examples.arrays["labels"]
    texts = [
        caption(image[0], int(label), str(name))
        for image, label, name in zip(inputs, labels, examples.ids, strict=True)
    ]
    groups = [NOUNS[label][0] for label in labels]
    arrays = {"inputs": inputs, "tokens": encode(texts)}
    # A comma is a word of its own to the model, not to a reader.
    return Examples(arrays, examples.ids, texts=[text.replace(" ,", ",") for text in texts], groups=groups)


def caption(image: Float32[np.ndarray, "height width"], label: int, name: str) -> str:
    """Return the caption of an image.

    Args:
        image: Its pixels.
        label: Its class.
        name: Its id, which chooses the words where there is a choice.
    """
    ink = image[image > PAPER]
    tone = TONES[int(np.searchsorted(DARKNESS, ink.mean()))] if len(ink) else TONES[0]
    surface = SURFACES[int(len(ink) > 0 and ink.std() > SPREAD)]
    random = generator("caption", name)
    noun = NOUNS[label][random.integers(len(NOUNS[label]))]
    return TEMPLATES[random.integers(len(TEMPLATES))].format(tone=tone, surface=surface, noun=noun)


def encode(texts: list[str]) -> Int64[np.ndarray, "n length"]:
    """Return the tokens of captions, or of texts that are made of the same words.

    Raises:
        KeyError: A word is not in `WORDS`.
        ValueError: A text has more than 7 words.
    """
    numbers = {word: number for number, word in enumerate(WORDS, start=1)}
    tokens = np.zeros((len(texts), LENGTH), dtype=np.int64)
    for row, text in enumerate(texts):
        found = [numbers[word] for word in text.split()]
        if len(found) > LENGTH:
            raise ValueError(f"'{text}' has more than {LENGTH} words.")
        tokens[row, : len(found)] = found
    return tokens
