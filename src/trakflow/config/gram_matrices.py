"""Settings of methods that invert a k x k Gram matrix, checked before anything is trained."""

from collections.abc import Mapping
from typing import Any

# What each of them calls its ridge.
RIDGES = {
    "trakflow.methods.traker.Traker": "lambda_reg",
    "trakflow.methods.dattri.Dattri": "regularization",
}


def check_inverse(name: str, make: Mapping[str, Any], size: int) -> None:
    """Refuse more features than there are examples where nothing is added to the diagonal.

    Args:
        name: Of the method.
        make: Its component.
        size: Number of training examples.

    Raises:
        ValueError: The matrix would have no inverse, or there is no number of features.
    """
    ridge = RIDGES.get(make["_target_"])
    if ridge is None:
        return
    k = make.get("k")
    if k is None:
        raise ValueError(
            f"method.{name}.make.k is null, as the experiment's sketch has no k; set it to a number of features"
        )
    if not make.get(ridge) and k >= size:
        raise ValueError(
            f"method.{name}.make.k={k} must be smaller than data.train_size={size}, or its Gram matrix has no inverse; "
            f"choose a smaller k, or a positive method.{name}.make.{ridge}"
        )
