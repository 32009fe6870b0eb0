"""The same job done by the two published packages: gradients of the output function, projected to k numbers each."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trakflow.methods.base import Trained
from trakflow.methods.dattri import make_attributor
from trakflow.methods.functional import Functional, library
from trakflow.tasks.base import Batch, Task

# traker gives every call rows of its own in an array of this many batches, and then starts again.
TRAKER_CALLS = 4

Featurize = Callable[[], Float[Tensor, "batch k"]]


@contextlib.contextmanager
def traker(
    model: nn.Module, task: Task, batch: Batch, k: int, device: str, projector: Any = None
) -> Iterator[Featurize]:
    """Yield a call of `TRAKer.featurize` on one batch, as its quickstart makes it but in float32.

    Its own task `image_classification` is the log-odds, the output of `trakflow.tasks.classification`; it also computes
    Q. Features are divided by the square root of the number of parameters, and kept in a temporary folder.

    Args:
        model: Takes the batch's inputs and returns logits.
        task: Not used: `Classification` is what traker's own task computes.
        batch: `inputs` and `labels`.
        k: Number of features.
        device: ``cpu``: it takes its BasicProjector with normal entries. On a GPU it takes what it finds.
        projector: In place of the one that it takes by itself, for tests.
    """
    from trak import TRAKer

    size = len(batch["labels"])
    arrays = [batch["inputs"], batch["labels"]]
    with TemporaryDirectory(prefix="traker-") as folder:
        with library("traker"):
            found = TRAKer(
                model=model,
                task="image_classification",
                train_set_size=TRAKER_CALLS * size,
                save_dir=folder,
                device=device,
                proj_dim=k,
                projector=projector,
                use_half_precision=False,
                logging_level=logging.CRITICAL,
            )
        found.load_checkpoint(model.state_dict(), model_id=0)
        calls = 0

        def featurize() -> Tensor:
            nonlocal calls
            first = calls % TRAKER_CALLS * size
            if first == 0:
                found._last_ind = 0
                found.saver.current_store["is_featurized"][:] = 0
            calls += 1
            found.featurize(batch=arrays, num_samples=size)
            return torch.as_tensor(found.saver.current_store["grads"][first : first + size])

        yield featurize


@contextlib.contextmanager
def dattri(
    model: nn.Module, task: Task, batch: Batch, k: int, device: str, kind: str = "normal"
) -> Iterator[Featurize]:
    """Yield what the loop of `TRAKAttributor.cache` does with one batch: gradients, projection and Q.

    The attributor itself goes on to the Gram matrix, so its loop is written out here, with its own functions, in its
    order. Features are divided by the square root of the number of parameters.

    Args:
        model: Takes the batch's inputs and returns logits.
        task: Defines the output.
        batch: `inputs` and `labels`.
        k: Number of features.
        device: ``cpu`` or ``cuda``.
        kind: Its `proj_type`; ``identity`` for tests.
    """
    from dattri.func.projection import random_project
    from dattri.func.utils import _unflatten_params

    functional = Functional(task, ("inputs", "labels"))
    trained = Trained(model, task, batch, batch, None, 0, 0, len(batch["labels"]), 0, device)
    attributor = make_attributor(model, functional, [trained], k, device, proj_type=kind)
    parameters, _ = attributor.task.get_param(ckpt_idx=0)
    arrays = (batch["inputs"], batch["labels"])
    size = len(batch["labels"])

    def featurize() -> Tensor:
        # As its own loop does; ours would stop instead.
        gradients = torch.nan_to_num(attributor.grad_loss_func(parameters, arrays))
        gradients /= attributor.norm_scaler
        project = random_project(gradients, size, **attributor.projector_kwargs)
        features = project(gradients, ensemble_id=0).clone().detach()
        weights = _unflatten_params(parameters, attributor.task.get_model())
        _ = 1 - attributor.correct_probability_func(weights, arrays).flatten()
        return features

    yield featurize


PEERS = {"traker": traker, "dattri": dattri}
