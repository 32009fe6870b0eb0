"""The numba kernels behind `scatter`; imported at the first use, compiled once and cached on disk."""

from typing import no_type_check

import numpy as np

from trakflow.sketches.jit import compiled


@compiled
@no_type_check
def count_sketch(values: np.ndarray, index: np.ndarray, sign: np.ndarray, features: np.ndarray) -> None:
    """Add each row's signed entries to its features."""
    for row in range(values.shape[0]):
        for entry in range(values.shape[1]):
            features[row, index[entry]] += sign[entry] * values[row, entry]


@compiled
@no_type_check
def scatter_matrix(
    matrix: np.ndarray,
    row_index: np.ndarray,
    row_sign: np.ndarray,
    column_index: np.ndarray,
    column_sign: np.ndarray,
    features: np.ndarray,
) -> None:
    """Add a matrix to features (2k) at the sums of its rows' and columns' indices."""
    for row in range(matrix.shape[0]):
        first, sign = row_index[row], row_sign[row]
        for column in range(matrix.shape[1]):
            features[first + column_index[column]] += sign * column_sign[column] * matrix[row, column]


@compiled
@no_type_check
def scatter_products(
    left: np.ndarray,
    right: np.ndarray,
    row_index: np.ndarray,
    row_sign: np.ndarray,
    column_index: np.ndarray,
    column_sign: np.ndarray,
    features: np.ndarray,
) -> None:
    """Add each example's outer product left x right to its features (examples x 2k)."""
    signed = np.empty(right.shape[1], right.dtype)
    for example in range(left.shape[0]):
        for column in range(right.shape[1]):
            signed[column] = column_sign[column] * right[example, column]
        for row in range(left.shape[1]):
            # Units that a ReLU switched off are many.
            if left[example, row] != 0:
                first, factor = row_index[row], row_sign[row] * left[example, row]
                for column in range(right.shape[1]):
                    features[example, first + column_index[column]] += factor * signed[column]
