"""Small modules of every family that rules cover, as (make, inputs) by name; all in float64."""

import torch
from torch import nn


class Repeated(nn.Module):
    """One layer called three times, and its weight tied to another's."""

    def __init__(self):
        super().__init__()
        self.first, self.tied = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.tied.weight = self.first.weight

    def forward(self, inputs):
        for _ in range(3):
            inputs = torch.tanh(self.first(inputs))
        return self.tied(inputs)


class Frames(nn.Module):
    """A convolution and a linear layer on several frames an example, folded into the batch."""

    def __init__(self):
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(2, 4, 3), nn.Linear(16, 3)

    def forward(self, inputs):
        frames = self.linear(self.convolution(inputs.flatten(0, 1)).flatten(1))
        return frames.unflatten(0, inputs.shape[:2]).sum(dim=1)


class InPlace(nn.Module):
    """Activations that overwrite a module's output."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3), nn.Tanh())

    def forward(self, inputs):
        return self.layers(inputs)


class Attention(nn.Module):
    def __init__(self, masks=False, need_weights=False, **settings):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **settings)
        self.masks, self.need_weights, self.settings = masks, need_weights, settings

    def forward(self, inputs):
        first = self.settings.get("batch_first", False)
        inputs = inputs if first else inputs.transpose(0, 1)
        key = inputs[..., : self.settings.get("kdim", 8)]
        value = inputs[..., : self.settings.get("vdim", 8)]
        masks = {}
        if self.masks:
            length, batch = (inputs.shape[1], inputs.shape[0]) if first else inputs.shape[:2]
            padding = torch.zeros(batch, length, dtype=torch.bool)
            padding[:, -1] = True
            causal = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
            masks = {"key_padding_mask": padding, "attn_mask": causal}
        output, weights = self.attention(inputs, key, value, need_weights=self.need_weights, **masks)
        output = output if first else output.transpose(0, 1)
        return output if weights is None else output.sum(dim=-1) + weights.sum(dim=-1)


class TiedTransformer(nn.Module):
    """Embeddings tied to the output layer, positions shared by all examples, an encoder with the sequence first."""

    def __init__(self, batch_first=False):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8, padding_idx=0), nn.Embedding(6, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(8, 11, bias=False)
        self.output.weight = self.tokens.weight
        self.batch_first = batch_first

    def forward(self, inputs):
        hidden = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1]))
        hidden = hidden if self.batch_first else hidden.transpose(0, 1)
        hidden = self.encoder(hidden)
        return self.output(hidden if self.batch_first else hidden.transpose(0, 1))


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs):
        return inputs + self.layers(inputs)


def convolution_block(incoming, outgoing, kernel=3, stride=1, padding=1):
    normalization = nn.BatchNorm2d(outgoing)
    normalization.running_mean.uniform_(-0.3, 0.3)
    normalization.running_var.uniform_(0.5, 2)
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, kernel, stride, padding, bias=False), normalization, nn.ReLU(inplace=True)
    )


def resnet9():
    """The ResNet-9 of the paper's CIFAR-10 experiments, an eighth as wide."""
    return nn.Sequential(
        convolution_block(3, 8),
        convolution_block(8, 16, 5, 2, 2),
        Residual(convolution_block(16, 16), convolution_block(16, 16)),
        convolution_block(16, 32),
        nn.MaxPool2d(2),
        Residual(convolution_block(32, 32), convolution_block(32, 32)),
        convolution_block(32, 16, 3, 1, 0),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10, bias=False),
    )


def normalized(layer):
    """A normalisation with scales, shifts and statistics that are not 1 and 0."""
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 2)
    return layer


def real(*shape):
    return lambda count: torch.randn(count, *shape, dtype=torch.float64)


def tokens(*shape):
    return lambda count: torch.randint(0, 11, (count, *shape))


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
        num_labels=3,
        attn_implementation="eager",
    )
    model = BertForSequenceClassification(config)
    return HuggingFace(model)


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2, attn_implementation="eager")
    return HuggingFace(GPT2LMHeadModel(config))


class HuggingFace(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(input_ids=inputs).logits


MODULES = {
    "linear": (lambda: nn.Linear(5, 7), real(5)),
    "linear without bias, with positions": (lambda: nn.Linear(5, 7, bias=False), real(4, 5)),
    "linear, two position dimensions": (lambda: nn.Linear(5, 7), real(2, 3, 5)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), real(3, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0)), real(3, 6, 5)),
    "conv2d dilated, grouped": (lambda: nn.Conv2d(4, 6, 3, dilation=2, groups=2, padding=2), real(4, 6, 6)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), real(4, 5, 5)),
    "conv2d same": (lambda: nn.Conv2d(2, 3, 4, padding="same"), real(2, 5, 5)),
    "conv2d circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), real(2, 5, 5)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"), real(2, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=1, groups=2), real(2, 4, 5, 4)),
    "embedding": (lambda: nn.Embedding(11, 5), tokens(6)),
    "embedding of one index": (lambda: nn.Embedding(11, 5), tokens()),
    "embedding of int32": (lambda: nn.Embedding(11, 5), lambda count: tokens(6)(count).int()),
    "embedding with padding": (lambda: nn.Embedding(11, 5, padding_idx=0), tokens(6)),
    "layer norm": (lambda: normalized(nn.LayerNorm(6)), real(4, 6)),
    "layer norm over two dimensions": (lambda: normalized(nn.LayerNorm((4, 6))), real(3, 4, 6)),
    "layer norm without bias": (lambda: normalized(nn.LayerNorm(6, bias=False)), real(6)),
    "rms norm": (lambda: normalized(nn.RMSNorm(6, eps=1e-5)), real(4, 6)),
    "group norm": (lambda: normalized(nn.GroupNorm(2, 6)), real(6, 3, 4)),
    "batch norm 1d": (lambda: normalized(nn.BatchNorm1d(6)), real(6)),
    "batch norm 1d with positions": (lambda: normalized(nn.BatchNorm1d(6)), real(6, 5)),
    "batch norm 2d": (lambda: normalized(nn.BatchNorm2d(6)), real(6, 3, 3)),
    "batch norm 3d": (lambda: normalized(nn.BatchNorm3d(4)), real(4, 2, 3, 2)),
    "attention": (lambda: Attention(batch_first=True), real(5, 8)),
    "attention, sequence first": (lambda: Attention(bias=False), real(5, 8)),
    "attention with masks": (lambda: Attention(masks=True, batch_first=True), real(5, 8)),
    "attention with weights": (lambda: Attention(masks=True, need_weights=True), real(5, 8)),
    "attention with zero": (lambda: Attention(masks=True, add_zero_attn=True, batch_first=True), real(5, 8)),
    "attention of unequal sizes": (lambda: Attention(batch_first=True, kdim=5, vdim=3), real(5, 8)),
    "repeated and tied": (Repeated, real(6)),
    "frames": (Frames, real(3, 2, 4, 4)),
    "in place": (InPlace, real(5)),
    "resnet9": (resnet9, real(3, 16, 16)),
    "tied transformer": (TiedTransformer, tokens(6)),
    "tied transformer, batch first": (lambda: TiedTransformer(batch_first=True), tokens(6)),
    "bert": (bert, tokens(6)),
    "gpt2": (gpt2, tokens(6)),
}


def make(name, count=5):
    """A module in evaluation mode and some inputs; seeded."""
    torch.manual_seed(0)
    build, inputs = MODULES[name]
    return build().double().eval(), inputs(count)
