"""The numba kernels behind `scatter`; imported at the first use, compiled once and cached on disk."""

from typing import no_type_check

import numpy as np

from trakflow.sketches.jit import compiled


@compiled
@no_type_check
def add_count_sketch(values, index, sign, features):
    """Add each row's signed entries to its features."""
    for row in range(values.shape[0]):
        for entry in range(values.shape[1]):
            features[row, index[entry]] += sign[entry] * values[row, entry]


@compiled
@no_type_check
def scatter_matrix(matrix, row_index, row_sign, column_index, column_sign, features):
    """Add a matrix to features (2k) at the sums of its rows' and columns' indices."""
    for row in range(matrix.shape[0]):
        first, sign = row_index[row], row_sign[row]
        for column in range(matrix.shape[1]):
            # Unsigned, so that no index needs to be checked for counting from the end.
            features[np.uint32(first + column_index[column])] += sign * column_sign[column] * matrix[row, column]


@compiled
@no_type_check
def scatter_products(left, right, row_index, row_sign, column_index, column_sign, features):
    """Add each example's outer product left x right to its features (examples x k)."""
    k = features.shape[1]
    signed = np.empty(right.shape[1], right.dtype)
    for example in range(left.shape[0]):
        for column in range(right.shape[1]):
            signed[column] = column_sign[column] * right[example, column]
        for row in range(left.shape[1]):
            # Units that a ReLU switched off are many.
            if left[example, row] != 0:
                first, factor = row_index[row], row_sign[row] * left[example, row]
                for column in range(right.shape[1]):
                    place = first + column_index[column]
                    place = place - k if place >= k else place
                    features[example, place] += factor * signed[column]
