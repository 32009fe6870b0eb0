"""A quick look at whether everything that an attribution needs is there."""

import tempfile

import torch
from torch import nn

from trakflow.sketches.fast_jl import require_fast_jl
from trakflow.traker.traker import TRAKer

EXAMPLES, INPUTS, CLASSES = 20, 256, 2


def test_install(use_fast_jl: bool = False) -> None:  # noqa: PT028 (no test)
    """Attribute a random model from beginning to end, and say that it worked.

    Args:
        use_fast_jl: Whether to project by the package fast_jl, on an NVIDIA GPU; if not, by the default sketch.

    Raises:
        DeviceError: fast_jl, or a GPU, is not there.
    """
    if use_fast_jl:
        require_fast_jl("cuda")
    generator = torch.Generator().manual_seed(0)
    batch = (
        torch.randn(EXAMPLES, INPUTS, generator=generator),
        torch.randint(CLASSES, (EXAMPLES,), generator=generator),
    )
    model = nn.Linear(INPUTS, CLASSES, bias=False)
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model,
            "image_classification",
            EXAMPLES,
            save_dir=folder,
            projector="fast_jl" if use_fast_jl else None,
            proj_dim=512,
            device="cuda" if use_fast_jl else None,
        )
        traker.load_checkpoint(model.state_dict(), model_id=0)
        traker.featurize(batch, num_samples=EXAMPLES)
        traker.finalize_features()
        traker.start_scoring_checkpoint("test", model.state_dict(), model_id=0, num_targets=EXAMPLES)
        traker.score(batch, num_samples=EXAMPLES)
        scores = traker.finalize_scores("test")
        device, shape = traker.device, scores.shape
        # An open mapping of a file that is about to be deleted keeps it alive on some systems.
        del scores, traker
    print(f"trakflow works on {device}{' with fast_jl' if use_fast_jl else ''}: scores {shape[0]} x {shape[1]}.")


# A function of a user's program, not a test, whatever its name: pytest asks.
test_install.__test__ = False  # type: ignore[attr-defined]
