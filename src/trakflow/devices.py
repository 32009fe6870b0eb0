"""Where models run."""

import torch

from trakflow.errors import DeviceError


def usable_device(name: str | torch.device) -> torch.device:
    """Return a device that can be computed on, and have it compute in float32.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        DeviceError: It is no device, or not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"runtime.device={name} is no device; use cpu, cuda or cuda:<number> (with TRAKer: device)."
        ) from error
    # Gradients in float32, on a GPU too: its convolutions would round to ten bits by default, and its products may.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"runtime.device={device} but no NVIDIA GPU is visible; set runtime.device=cpu (with TRAKer: device='cpu')."
        )
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"runtime.device={device} cannot be used ({reason}); use cpu, cuda or cuda:<number> (with TRAKer: device)."
        ) from error
    return device


def starts_at_once(device: torch.device) -> bool:
    """Whether an operation begins when it is called, so that staying with one example in the caches is best.

    A GPU takes as long to start one as to do it for many examples, so it should be given all of them.
    """
    return device.type == "cpu"
