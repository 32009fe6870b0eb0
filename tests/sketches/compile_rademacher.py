"""Compile the Triton kernel for GPUs that need not be there, and write its assembly; a process of its own, since the
tests' import hook would reach into it."""

import sys
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from trakflow.sketches.rademacher_triton import BATCH, ROWS, WARPS, partial_sums


def compile_kernel(capability, wide, one):
    """Compile for a compute capability, for numbers of 32 or 64 bits, and for sizes that triton knows to be one."""
    constants = {"BATCH": BATCH, "ROWS": ROWS, "OPERAND": tl.bfloat16, **dict.fromkeys(one, 1)}
    signature = dict.fromkeys(partial_sums.arg_names, "i64" if wide else "i32")
    signature |= {"gradients": "*fp32", "partials": "*fp32", "seed": "i64"} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(partial_sums, signature, constants)
    return triton.compile(source, GPUTarget("cuda", capability, 32), options={"num_warps": WARPS}).asm["ptx"]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "A100.ptx").write_text(compile_kernel(80, wide=False, one=()))
    (folder / "H100.ptx").write_text(compile_kernel(90, wide=True, one=()))
    (folder / "H100_one.ptx").write_text(compile_kernel(90, wide=False, one=("batch", "size", "k")))
