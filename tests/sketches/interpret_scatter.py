"""Run the Triton kernels of the scatter on the CPU for the cases given in a file; a process of its own, since triton
reads its environment when it is imported."""

import sys

import torch

from trakflow.sketches import scatter_triton


def main(cases_file, found_file):
    found = []
    for case in torch.load(cases_file):
        features, signs = case["features"], case["column_sign"]
        ranges = scatter_triton.RowRanges.of(case["row_index"], case["row_sign"], len(signs), features.shape[1])
        if "left" in case:
            scatter_triton.scatter_products(features, case["left"], case["right"], ranges, signs)
        else:
            scatter_triton.scatter_matrices(features, case["matrices"], ranges, signs)
        found.append(features)
    torch.save(found, found_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
