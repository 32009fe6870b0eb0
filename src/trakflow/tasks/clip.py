"""Image-text contrast with the paper's output function (Park et al. 2023, section on CLIP and its appendix)."""

import copy
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from trakflow.errors import ConfigError
from trakflow.seeds import generator
from trakflow.tasks.base import Batch, Model
from trakflow.tasks.preparation import ReferencedTask
from trakflow.tasks.running import floating_type, run_model

EMBEDDED_AT_ONCE = 256
# Of two fingerprints of one example, which differ by the rounding of a sum in float64.
SAME = 1e-9
# Two numbers an example: that two examples agree in both by chance is out of the question.
FINGERPRINTS = 2


@dataclass(frozen=True)
class References:
    """Reference pairs as one checkpoint embeds them; constants, through which no gradient goes.

    Attributes:
        image: Embeddings of their images.
        text: Embeddings of their texts.
        fingerprints: By which a pair is known again.
    """

    image: Float[Tensor, "references d"]
    text: Float[Tensor, "references d"]
    fingerprints: Float[Tensor, "references 2"]

    def are(self, batch: Batch) -> Bool[Tensor, "batch references"]:
        """Which reference is an example itself."""
        own = fingerprints(batch).unsqueeze(-2)
        return ((own - self.fingerprints).abs() <= SAME * (1 + own.abs())).all(dim=-1)


class CLIP(ReferencedTask):
    """How well an image and its text find each other among `simulated_batch_size` reference pairs.

    With image embeddings u, text embeddings v and the model's temperature s, and over the references j other than the
    example i itself,

        f = a + b,   a = -log sum_j exp(s u_i.v_j - s u_i.v_i),   b = -log sum_j exp(s u_j.v_i - s u_i.v_i).

    a and b are the log-odds of the right text for the image and of the right image for the text: the output function of
    classification, twice. The loss is that of the paper and of CLIP, the sum of both cross-entropies,
    log(1 + exp(-a)) + log(1 + exp(-b)) over the same references, and depends on a and b, not on f alone. Q and W are
    its derivatives along the pair's own similarity, which moves a and b by half of f each:

        Q = ((1 - p) + (1 - q)) / 2,   W = (p (1 - p) + q (1 - q)) / 4,   p = sigmoid(a),   q = sigmoid(b).

    Training contrasts the examples of a batch with each other; there, and only there, they do influence each other.
    The references stand in for that batch. They are the same pairs for all models, embedded by each model's own
    weights, and constants when gradients are taken.

    Args:
        simulated_batch_size: Number of reference pairs that the workflow draws from the training set. A `TRAKer` is
            given its references, and draws none.
        seed: Of this draw.
        interface: How the model is called. `open_clip`: model(images, tokens), which returns normalised image
            embeddings, normalised text embeddings and exp(logit_scale), as a tuple or a dictionary (`image_features`,
            `text_features`, `logit_scale`); `trakflow.models.image_text` and open_clip's CLIP do so.
            `transformers`: model(pixel_values=..., input_ids=..., attention_mask=...), whose `image_embeds` and
            `text_embeds` are read. It does not return `logit_scale`, so that is read from the model once for each
            checkpoint and is a constant too; such models can be attributed but not trained here.

    Attributes:
        fields: `inputs` are the images, `tokens` the texts; `attention_mask` may come beside them in a mapping.

    Raises:
        ConfigError: Fewer than two references, or an unknown interface.
    """

    fields = ("inputs", "tokens")

    def __init__(
        self,
        simulated_batch_size: int = 300,
        seed: int = 0,
        interface: str = "open_clip",
    ):
        if simulated_batch_size < 2:
            raise ConfigError(f"task.simulated_batch_size={simulated_batch_size}; a contrast needs at least 2 pairs.")
        if interface not in ("open_clip", "transformers"):
            raise ConfigError(f"task.interface={interface!r} must be open_clip or transformers.")
        self.simulated_batch_size = simulated_batch_size
        self.seed = seed
        self.interface = interface
        self._references: References | None = None
        # exp(logit_scale) of a model whose outputs do not hold it.
        self._scale: Tensor | None = None

    def reference_rows(self, total: int) -> Int[np.ndarray, " references"]:
        """Return a random part of the training set, a function of the seed and `total` alone."""
        if total < self.simulated_batch_size:
            raise ConfigError(
                f"task.simulated_batch_size={self.simulated_batch_size}, but there are only {total} training examples "
                "to draw from (data.train_size); set it lower."
            )
        return np.sort(generator(self.seed, "references").permutation(total)[: self.simulated_batch_size])

    def with_references(self, model: nn.Module, references: Batch) -> "CLIP":
        """Return a copy with these pairs, embedded by `model` in evaluation mode.

        Raises:
            ConfigError: There is only one.
        """
        if len(references["inputs"]) < 2:
            raise ConfigError("There is one reference pair; a contrast needs at least 2.")
        found = copy.copy(self)
        found._scale = _scale_of(model) if self.interface == "transformers" else None
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                raw = torch.cat(
                    [
                        run_model(
                            found,
                            model,
                            {name: value[start : start + EMBEDDED_AT_ONCE] for name, value in references.items()},
                            floating_type(model),
                        )
                        for start in range(0, len(references["inputs"]), EMBEDDED_AT_ONCE)
                    ]
                )
        finally:
            model.train(training)
        image, text, _ = _parts(raw)
        found._references = References(image, text, fingerprints(references))
        return found

    def forward(self, model: Model, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the embeddings of image and text (d columns each) and the temperature (one column).

        Raises:
            ConfigError: The examples have no `tokens`, or the model returns something else than `interface` says.
        """
        image, text, scale = self._embeddings(model, batch)
        if scale is None:
            scale = self._scale
        if scale is None:
            raise ConfigError(
                "The outputs of a model of task.interface=transformers do not hold its temperature, so it cannot be "
                "trained here: give checkpoints.files."
            )
        return torch.cat([image, text, scale.reshape(1, 1).expand(len(image), 1)], dim=1)

    def output(self, raw: Float[Tensor, "batch columns"], batch: Batch) -> Float[Tensor, " batch"]:
        """F = a + b."""
        of_text, of_image = self._log_odds(raw, batch)
        return of_text + of_image

    def loss_gradient(self, raw: Float[Tensor, "batch columns"], batch: Batch) -> Float[Tensor, " batch"]:
        """1 - (p + q) / 2."""
        of_text, of_image = self._log_odds(raw.float(), batch)
        return (torch.sigmoid(-of_text) + torch.sigmoid(-of_image)) / 2

    def curvature(self, raw: Float[Tensor, "batch columns"], batch: Batch) -> Float[Tensor, " batch"]:
        """(p (1 - p) + q (1 - q)) / 4."""
        variances = [torch.sigmoid(odds) * torch.sigmoid(-odds) for odds in self._log_odds(raw.float(), batch)]
        return (variances[0] + variances[1]) / 4

    def loss(self, raw: Float[Tensor, "batch columns"], batch: Batch) -> Float[Tensor, " batch"]:
        """Sum of both cross-entropies of each pair among those of its batch (twice the loss of open_clip)."""
        image, text, scale = _parts(raw)
        similarity = scale * (image @ text.T)
        right = torch.arange(len(raw), device=raw.device)
        return functional.cross_entropy(similarity, right, reduction="none") + functional.cross_entropy(
            similarity.T, right, reduction="none"
        )

    def _log_odds(self, raw: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the right text among those of the references, and of the right image."""
        references = self._prepared()
        image, text, scale = _parts(raw)
        own = scale * (image * text).sum(dim=1, keepdim=True)
        itself = references.are(batch)
        others = (image @ references.text.to(raw.dtype).T, text @ references.image.to(raw.dtype).T)
        found = [-torch.logsumexp((scale * other - own).masked_fill(itself, -math.inf), dim=1) for other in others]
        return found[0], found[1]

    def _prepared(self) -> References:
        if self._references is None:
            raise ConfigError(
                "CLIP compares a pair with reference pairs, which have not been embedded by this model: call "
                "trakflow.tasks.preparation.prepared(task, model, references) first."
            )
        return self._references

    def _embeddings(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        if missing := [name for name in self.fields if name not in batch]:
            raise ConfigError(
                f"CLIP reads {' and '.join(self.fields)}, but the examples have {', '.join(batch)}: {missing[0]} is "
                "missing."
            )
        if self.interface == "transformers":
            mask = {"attention_mask": batch["attention_mask"]} if "attention_mask" in batch else {}
            returned = model(pixel_values=batch["inputs"], input_ids=batch["tokens"], **mask)
            found: Any = [getattr(returned, name, None) for name in ("image_embeds", "text_embeds")]
            scale = None
        else:
            returned = model(batch["inputs"], batch["tokens"])
            if isinstance(returned, dict):
                names = ("image_features", "text_features", "logit_scale")
                returned = [returned[name] for name in names if name in returned] if len(returned) == len(names) else []
            *found, scale = returned if isinstance(returned, (tuple, list)) and len(returned) == 3 else (None, None)
        if not _are_embeddings(found, scale, self.interface, len(batch["inputs"])):
            raise ConfigError(
                f"`model` does not return what task.interface={self.interface} says: normalised embeddings of images "
                "and of texts, of one size" + (", and exp(logit_scale)." if self.interface == "open_clip" else ".")
            )
        return found[0], found[1], scale


def _are_embeddings(found: Any, scale: Any, interface: str, size: int) -> bool:
    embeddings = len(found) == 2 and all(isinstance(part, Tensor) and part.ndim == 2 for part in found)
    if not embeddings or found[0].shape != found[1].shape or len(found[0]) != size:
        return False
    return interface == "transformers" or (isinstance(scale, Tensor) and scale.numel() == 1)


def _parts(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    size = (raw.shape[1] - 1) // 2
    return raw[:, :size], raw[:, size : 2 * size], raw[:, 2 * size :]


def _scale_of(model: nn.Module) -> Tensor:
    scale = getattr(model, "logit_scale", None)
    if not isinstance(scale, Tensor) or scale.numel() != 1:
        raise ConfigError(
            f"`model` ({type(model).__name__}) has no parameter `logit_scale`, the logarithm of its temperature."
        )
    return scale.detach().exp().clone()


def fingerprints(batch: Batch) -> Float[Tensor, "batch 2"]:
    """Two random sums of an example's image and tokens, in float64: equal for the same example and no other.

    Tokens may be padded by zeros to any length.
    """
    sums = [_random_sums(batch[name].flatten(1).double(), name) for name in CLIP.fields]
    return sums[0] + sums[1]


def _random_sums(rows: Float[Tensor, "batch size"], name: str) -> Float[Tensor, "batch 2"]:
    return rows @ _random_numbers(name, rows.shape[1]).to(rows.device)


@cache
def _random_numbers(name: str, size: int) -> Float[Tensor, "size 2"]:
    # Drawn row by row, so that a longer one begins as a shorter one does.
    return torch.from_numpy(generator("fingerprint", name).standard_normal((size, FINGERPRINTS)))
