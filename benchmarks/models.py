"""The models of the featurize benchmark, in evaluation mode with random weights, and random batches that fit them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trakflow.models.mlp import MLP
from trakflow.models.resnet9 import ResNet9
from trakflow.tasks.base import Batch

CLASSES = 10
BERT_CLASSES = 2
BERT_LENGTH = 64
BERT_VOCABULARY = 1000


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
        lambda: ResNet9(CLASSES),
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
