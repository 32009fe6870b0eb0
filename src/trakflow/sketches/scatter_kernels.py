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
def scatter_matrix(matrix, row_index, row_sign, column_sign, features):
    """Add a matrix to features (2k): each row to consecutive ones, from its index on, every k columns anew."""
    k, size = len(features) // 2, matrix.shape[1]
    for row in range(matrix.shape[0]):
        first, sign = row_index[row], row_sign[row]
        for begin in range(0, size, k):
            count = min(k, size - begin)
            # Slices, of which the compiler sees that the loop runs through them one entry after another.
            target, signs = features[first : first + count], column_sign[begin : begin + count]
            source = matrix[row, begin : begin + count]
            for entry in range(count):
                target[entry] += sign * signs[entry] * source[entry]


@compiled
@no_type_check
def scatter_products(left, right, row_index, row_sign, column_sign, features):
    """Add each example's outer product left x right to its features (examples x k)."""
    k, size = features.shape[1], right.shape[1]
    signed = np.empty(size, right.dtype)
    for example in range(left.shape[0]):
        for column in range(size):
            signed[column] = column_sign[column] * right[example, column]
        for row in range(left.shape[1]):
            # Units that a ReLU switched off are many.
            if left[example, row] != 0:
                factor = row_sign[row] * left[example, row]
                place, begin = row_index[row], 0
                while begin < size:
                    # As far as the features reach, then from the first one on.
                    count = min(k - place, size - begin)
                    target, source = features[example, place : place + count], signed[begin : begin + count]
                    for entry in range(count):
                        target[entry] += factor * source[entry]
                    place, begin = 0, begin + count
