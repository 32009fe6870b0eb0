"""Run the Triton kernel on the CPU for the cases given in a file; a process of its own, since triton reads its
environment when it is imported."""

import sys

import torch

from trakflow.sketches.rademacher_triton import project


def main(cases_file, found_file):
    found = []
    for case in torch.load(cases_file):
        features = case["features"]
        project(features, case["gradients"], case["seed"], case["first_row"])
        found.append(features)
    torch.save(found, found_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
