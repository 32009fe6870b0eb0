"""One checkpoint's factored Gram matrix on disk, tied to the features that it was made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from trakflow.errors import NumericalError, StoreError
from trakflow.features import FeatureSet
from trakflow.kernel import Kernel, factorize, gram, outer_gram
from trakflow.store.array_file import ArrayFile, content, write_arrays


def make_kernel(features: FeatureSet) -> Kernel:
    """Factor the smaller of the two Gram matrices, from partial ones where the shards hold them.

    Raises:
        NumericalError: The curvature weights W are negative or all zero, or the matrix is zero or not finite.
    """
    _check_weights(features)
    if features.k > features.n:
        return factorize(outer_gram(features.rows, features.n), "examples")
    return factorize(_sum_of_grams(features), "features")


def _sum_of_grams(features: FeatureSet) -> Float64[Tensor, "k k"]:
    """Add up partial Gram matrices; reads the features of those shards only that hold none for these weights."""
    total = torch.zeros(features.k, features.k, dtype=torch.float64)
    for file in features.files:
        made = file.provenance.get("gram_weights") == _weights(features)
        total += torch.from_numpy(file.read("gram")) if made else gram(features.rows_of(file), features.k)
    return total


def _weights(features: FeatureSet) -> str:
    return "on" if features.weighted else "off"


def _check_weights(features: FeatureSet) -> None:
    if not features.weighted:
        return
    weights = np.concatenate([file.read("curvatures") for file in features.files])
    if (weights < 0).any():
        raise NumericalError(
            f"The curvature weight W = d2loss/df2 is negative for {(weights < 0).sum()} training examples, first "
            f"number {int(np.argmax(weights < 0))}; rows of the Gram matrix take weights of at least zero. Set "
            "solver.weights=off (with TRAKer: give lambda_reg)."
        )
    if not weights.any():
        raise NumericalError(
            "The curvature weight W = d2loss/df2 is zero for every training example, so it cannot weight the Gram "
            "matrix; set solver.weights=off (with TRAKer: give lambda_reg)."
        )


def features_identity(features: FeatureSet) -> dict[str, Any]:
    """Return what tells these features from all others, JSON-able."""
    return {**features.provenance, "content": [content(file) for file in features.files]}


def write_kernel(path: Path | str, kernel: Kernel, features: FeatureSet, provenance: Mapping[str, Any]) -> None:
    """Write a kernel with what it was made from.

    Args:
        path: Where to.
        kernel: By `make_kernel`.
        features: What it was made from.
        provenance: Facts of the writer beside these.

    Raises:
        StoreError: The file cannot be written.
    """
    arrays = {"eigenvalues": kernel.eigenvalues.numpy(), "eigenvectors": kernel.eigenvectors.numpy()}
    facts = {"side": kernel.side, "weights": _weights(features), "features": features_identity(features)}
    write_arrays(path, arrays, {**provenance, **facts})


def read_kernel(path: Path | str, features: FeatureSet) -> Kernel:
    """Read a kernel and refuse one that was not made from these features.

    Raises:
        StoreError: The files do not belong together.
    """
    file = ArrayFile(path)
    if (reason := _mismatch(file, features)) is not None:
        raise StoreError(f"{file.path} was made {reason}. Delete it and run the same command again.")
    return Kernel(
        torch.from_numpy(file.read("eigenvalues")), torch.from_numpy(file.read("eigenvectors")), file.provenance["side"]
    )


def is_kernel_of(path: Path | str, features: FeatureSet) -> bool:
    """Whether a file is there and holds the kernel of these features.

    Raises:
        StoreError: It is there and damaged.
    """
    return Path(path).is_file() and _mismatch(ArrayFile(path), features) is None


def _mismatch(file: ArrayFile, features: FeatureSet) -> str | None:
    wanted = _weights(features)
    if file.provenance["weights"] != wanted:
        return f"with solver.weights={file.provenance['weights']}, and {wanted} is set now"
    if file.provenance["features"] != features_identity(features):
        return f"from other features than those in {features.files[0].path.parent}"
    return None
