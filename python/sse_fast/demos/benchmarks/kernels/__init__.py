"""The built-in kernels: each a file here, shown in the page's editor and submitted by its name.

A kernel is Python source that defines ``kernel(n)``, which does the work, and may define ``flops(n)``, the number of
floating-point operations that is. Owns: the catalogue. Must not know: how a kernel is compiled or timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Kernel:
    """A built-in kernel: its file, how the page names it, and the size it is usually run with."""

    file: str
    title: str
    size: int


BUILT_IN = {
    "matmul": Kernel("matmul.py", "Matrix product", 96),
    "leaky-relu": Kernel("leaky_relu.py", "Leaky ReLU", 200_000),
    "saxpy": Kernel("saxpy.py", "SAXPY", 200_000),
    "silent": Kernel("silent.py", "Exits without a result", 1000),
}


def source(name: str) -> str:
    """The source of a built-in kernel."""
    return resources.files(__name__).joinpath(BUILT_IN[name].file).read_text("utf-8")
