"""The models of the featurize benchmark, in evaluation mode with random weights, and random batches that fit them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trakflow.models.mlp import MLP
from trakflow.tasks.base import Batch

CLASSES = 10
BERT_CLASSES = 2
BERT_LENGTH = 64
BERT_VOCABULARY = 1000


class Residual(nn.Module):
    """Adds what a module makes of its inputs to them."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs of any shape, plus the module's outputs of the same shape."""
        return inputs + self.module(inputs)


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs, of any shape, times the constant."""
        return inputs * self.factor


def _convolution(incoming: int, outgoing: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, stride, padding, bias=False), nn.BatchNorm2d(outgoing), nn.ReLU()
    )


def resnet9() -> nn.Module:
    """The ResNet-9 of the CIFAR-10 quickstart of traker: 2.27 million parameters, inputs (batch, 3, 32, 32)."""
    return nn.Sequential(
        _convolution(3, 64),
        _convolution(64, 128, kernel=5, stride=2, padding=2),
        Residual(nn.Sequential(_convolution(128, 128), _convolution(128, 128))),
        _convolution(128, 256),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(_convolution(256, 256), _convolution(256, 256))),
        _convolution(256, 128, padding=0),
        nn.AdaptiveMaxPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(128, CLASSES, bias=False),
        Scale(0.2),
    )


class BertLike(nn.Module):
    """A randomly initialised BERT classifier of 6 layers of width 384 that takes token numbers and returns logits."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        self.network = BertForSequenceClassification(
            BertConfig(
                vocab_size=BERT_VOCABULARY,
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
                num_labels=BERT_CLASSES,
                attn_implementation="sdpa",
            )
        )

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch classes"]:
        """Return logits."""
        return self.network(input_ids=tokens).logits


@dataclass(frozen=True)
class BenchmarkModel:
    """A model, and the batches that it is measured at.

    Attributes:
        title: For figures.
        make: Makes it, with weights from torch's global generator.
        inputs: Draws inputs of a batch size.
        classes: Number of logits.
        batches: Batch sizes for sketches that need no long time.
    """

    title: str
    make: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]
    classes: int
    batches: tuple[int, ...]


MODELS = {
    "mlp": BenchmarkModel(
        "MLP, 118 k parameters",
        lambda: MLP(784, [128, 128], CLASSES),
        lambda size: torch.randn(size, 784),
        CLASSES,
        (1, 16, 64, 256),
    ),
    "resnet9": BenchmarkModel(
        "ResNet-9, 2.3 M parameters",
        resnet9,
        lambda size: torch.randn(size, 3, 32, 32),
        CLASSES,
        (1, 16, 64, 256),
    ),
    "bert": BenchmarkModel(
        "BERT-like, 11 M parameters, length 64",
        BertLike,
        lambda size: torch.randint(BERT_VOCABULARY, (size, BERT_LENGTH)),
        BERT_CLASSES,
        (16, 64),
    ),
}


def make_model(name: str, seed: int, device: str) -> nn.Module:
    """Return a model of `MODELS` with seeded weights, in evaluation mode; all of its parameters require gradients."""
    torch.manual_seed(seed)
    return MODELS[name].make().to(device).eval()


def make_batch(name: str, size: int, seed: int, device: str) -> Batch:
    """Return a seeded random batch: `inputs` as the model takes them, and `labels` (batch, int64)."""
    torch.manual_seed(seed)
    model = MODELS[name]
    inputs, labels = model.inputs(size), torch.randint(model.classes, (size,))
    return {"inputs": inputs.to(device), "labels": labels.to(device)}


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
