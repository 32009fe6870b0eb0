"""Compile the Triton kernels of the scatter for GPUs that need not be there; a process of its own, since the tests'
import hook would reach into them."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trakflow.sketches.scatter_triton import FEATURES, ROWS, WARPS, gather_matrices, gather_products

ARRAYS = {"row": "*i32", "index": "*i32", "start": "*i32", "count": "*i32", "sign": "*fp32", "column_sign": "*fp32"}


def compile_kernel(kernel, capability, numbers):
    """Compile for a compute capability and a type of the gradients."""
    constants = {"FEATURES": FEATURES, "ROWS": ROWS}
    signature = dict.fromkeys(kernel.arg_names, "i32") | ARRAYS | dict.fromkeys(constants, "constexpr")
    given = [name for name in ("matrices", "left", "right", "partials") if name in kernel.arg_names]
    source = ASTSource(kernel, signature | dict.fromkeys(given, numbers), constants)
    return triton.compile(source, GPUTarget("cuda", capability, 32), options={"num_warps": WARPS}).asm["ptx"]


if __name__ == "__main__":
    for kernel in (gather_matrices, gather_products):
        for capability in (80, 90):
            for numbers in ("*fp32", "*fp64"):
                assert f".target sm_{capability}" in compile_kernel(kernel, capability, numbers)
                print(kernel.__name__, capability, numbers)
