"""Models on another device than their data, through TRAKer and through the stages, beside the same on the CPU.

A script, since the device stays in the process that makes it: prints a line for each case, and ends in 1 if one
differs. The device is the one that `elsewhere` makes up, or that of the argument, as in `on_another_device.py cuda`.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from elsewhere import NAME, Device
from safetensors.numpy import load_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from conftest import Experiment
from pairs import pairs, tiny_model
from tiny_bert import padded, sentence_classifier, sentences
from trakflow import TRAKer
from trakflow.models.mlp import MLP
from trakflow.models.resnet9 import ResNet9
from trakflow.stages.evaluate import subsets
from trakflow.stages.methods import attribute, attribute_checkpoint
from trakflow.stages.prepare import prepare_targets, prepare_train
from trakflow.stages.retrain import retrain, retrained_outputs

N, M = 8, 3
HOOKED = ("tensor_sketch", "factorized")
EXPLICIT = ("sjlt", "gaussian", "rademacher", "identity")
# These look at their mask's values, which vmap refuses: no explicit gradients of them.
MASKED = ("BERT", "GPT-2")
METHODS = ("tracin", "gas", "representation_similarity")
# These take forward-mode derivatives, which tensors of Python's do not survive.
ON_A_GPU = ("influence_function", "influence_arnoldi")
# Of the largest number: the made-up device differs by the order of sums alone, a GPU by how each is rounded, too.
TOLERANCE, TOLERANCE_OF_A_GPU = 1e-5, 1e-4


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    size = {"vocab_size": 11, "n_positions": 10, "n_embd": 8, "n_layer": 2, "n_head": 2}
    # What no tensor of Python's has: a cache that begins by torch.tensor([], device=...), fused attention of the
    # device's own library, and a weight of two modules that stays one on its way to the device.
    device = {"use_cache": False, "attn_implementation": "eager", "tie_word_embeddings": False}
    config = GPT2Config(**size, **device, bos_token_id=None, eos_token_id=None)
    return GPT2LMHeadModel(config).eval()


def seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return make().eval()

    return model


def problems() -> dict[str, tuple[str, Callable[[], nn.Module], dict[str, torch.Tensor]]]:
    """Task, model, and the examples as they come from a loader."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (N,), generator=random)
    tokens = torch.randint(11, (N, 6), generator=random)
    mask = torch.ones_like(tokens)
    mask[::2, 4:] = 0
    inputs = torch.randn(N, 5, generator=random)
    images = torch.rand(N, 3, 32, 32, generator=random)
    return {
        "MLP": ("image_classification", seeded(lambda: MLP(5, [4], 3)), {"inputs": inputs, "labels": labels}),
        "ResNet-9": ("image_classification", seeded(lambda: ResNet9(3, width=2)), {"inputs": images, "labels": labels}),
        "regression": ("regression", seeded(lambda: MLP(5, [4], 1)), {"inputs": inputs, "values": inputs[:, 0]}),
        "CLIP": ("clip", lambda: tiny_model(dtype=torch.float32), pairs(N, 1, torch.float32)),
        "BERT": ("text_classification", sentence_classifier, padded(sentences(N), tokens="input_ids")),
        "GPT-2": (
            "language_modeling",
            gpt2,
            {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)},
        ),
    }


def scores(kind: str, sketch: str, device: str, given: str = "cpu") -> np.ndarray:
    """Attribute by a model on a device; it and the batches are given on another, if not on the same."""
    task, make, examples = problems()[kind]
    model = make().to(given)
    examples = {name: value.to(given) for name, value in examples.items()}
    size = {} if sketch == "identity" else {"proj_dim": 16}
    own = {}
    if task == "clip":
        # The hooked sketches take no parameter outside of a layer, as the scale is.
        layers = [name for name, _ in model.named_parameters() if name != "logit_scale"]
        own = {"references": examples, "grad_wrt": layers}
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model, task, N, folder, device=device, projector=sketch, logging_level=40, use_half_precision=False,
            **size, **own,
        )  # fmt: skip
        state = make().state_dict()
        traker.load_checkpoint(state, 0)
        for start in (0, N // 2):
            traker.featurize(
                {name: value[start : start + N // 2] for name, value in examples.items()}, num_samples=N // 2
            )
        traker.finalize_features()
        traker.start_scoring_checkpoint("targets", state, 0, M)
        traker.score({name: value[:M] for name, value in examples.items()}, num_samples=M)
        return np.array(traker.finalize_scores("targets"))


def workflow(folder: Path, device: str, methods: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Stages that run a model: training, featurizing, retraining, and other methods."""
    run = Experiment(folder, f"methods=[trak,{','.join(methods)}]", "targets.output=predicted")
    # Not by the configuration, which refuses the made-up device.
    runtime = run.config.runtime.model_copy(update={"device": device})
    run.config = run.config.model_copy(update={"runtime": runtime})
    run.run(prepare_train)
    run.train()
    run.run(prepare_targets)
    yield "scores", run.featurize().solve().scores()
    run.run(subsets, batch=0)
    run.run(retrain, batch=0, retrain=0)
    run.run(retrained_outputs, batch=0, retrain=0)
    yield "outputs of retrained models", load_file(run.layout.retrained_outputs(0, 0))["outputs"]
    for method in methods:
        for checkpoint in run.checkpoints:
            run.run(attribute_checkpoint, method=method, checkpoint=checkpoint)
        run.run(attribute, method=method)
        yield method, np.load(run.layout.score_array(3, 3, method))


def main(name: str) -> None:
    """Compare what is computed on a device with what is computed on the CPU."""
    made_up = name == NAME
    methods, tolerance = (METHODS, TOLERANCE) if made_up else (METHODS + ON_A_GPU, TOLERANCE_OF_A_GPU)
    failed = 0
    # Before any backward pass, since autograd counts the devices when it begins.
    device = Device() if made_up else nullcontext()
    kinds = [(kind, sketch) for kind in problems() for sketch in (HOOKED if kind in MASKED else HOOKED + EXPLICIT)]
    expected = {case: scores(*case, "cpu") for case in kinds}
    with tempfile.TemporaryDirectory() as folder:
        on_cpu = dict(workflow(Path(folder) / "cpu", "cpu", methods))
        with device:
            for case in kinds:
                failed += differs(" by ".join(case), scores(*case, name), expected[case], tolerance)
            for sketch in HOOKED + EXPLICIT:
                found = scores("MLP", sketch, "cpu", given=name)
                failed += differs(f"from there to the CPU, MLP by {sketch}", found, expected["MLP", sketch], tolerance)
            for what, found in workflow(Path(folder) / name, name, methods):
                failed += differs(f"the workflow's {what}", found, on_cpu[what], tolerance)
    sys.exit(failed > 0)


def differs(name: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Print the largest difference as a part of the largest number."""
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    print(f"{name}: {difference:.1e}", flush=True)
    return not difference <= tolerance


if __name__ == "__main__":
    main(*(sys.argv[1:] or [NAME]))
