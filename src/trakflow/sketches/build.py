"""From a configuration to a sketch of one checkpoint."""

import torch
from torch import nn

from trakflow.config.attribution import Sketch as SketchSettings
from trakflow.seeds import derive_seed
from trakflow.sketches.base import Projection, Sketch
from trakflow.sketches.factorized import Factorized
from trakflow.sketches.fast_jl import FastJLProjection
from trakflow.sketches.gaussian import GaussianProjection
from trakflow.sketches.gradients import GradientSketch
from trakflow.sketches.identity import Identity
from trakflow.sketches.parameters import differentiated_parameters
from trakflow.sketches.rademacher import RademacherProjection
from trakflow.sketches.sjlt import SparseProjection
from trakflow.sketches.tensor_sketch import TensorSketch
from trakflow.tasks.base import Task


def build_sketch(
    settings: SketchSettings, model: nn.Module, task: Task, seed: int, checkpoint: int, device: str
) -> Sketch:
    """Make the sketch of one checkpoint; every checkpoint has its own random matrix.

    Args:
        settings: Which sketch, and k.
        model: The model with that checkpoint's weights, on `device`.
        task: Defines the output.
        seed: The experiment's seed.
        checkpoint: The checkpoint's index.
        device: Where gradients are computed.

    Returns:
        The sketch.

    Raises:
        DeviceError: It needs a GPU or a package that is not there.
        ConfigError: A pattern of `sketch.parameters` matches no parameter.
        SketchError: The sketch does not cover a module of the model.
    """
    parameters = differentiated_parameters(model, settings.parameters)
    own_seed = derive_seed(seed, "sketch", checkpoint)
    if settings.name == "tensor_sketch":
        assert settings.k is not None
        return TensorSketch(model, task, parameters, settings.k, own_seed)
    if settings.name == "factorized":
        assert settings.side is not None
        return Factorized(model, task, parameters, settings.side, settings.k, own_seed)
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    return GradientSketch(model, task, _projection(settings, sizes, own_seed, device), parameters)


def _projection(settings: SketchSettings, sizes: dict[str, int], seed: int, device: str) -> Projection:
    if settings.name == "identity":
        return Identity(sizes)
    assert settings.k is not None  # the schema requires it for every other sketch
    if settings.name == "sjlt":
        return SparseProjection(sizes, settings.k, seed, settings.nonzeros or 1, torch.device(device))
    if settings.name == "gaussian":
        return GaussianProjection(sizes, settings.k, seed)
    if settings.name == "rademacher":
        return RademacherProjection(sizes, settings.k, seed)
    return FastJLProjection(sizes, settings.k, seed, device)
