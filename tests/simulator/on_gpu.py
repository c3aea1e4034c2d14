"""Confirms the simulator on the GPU at hand: `python tests/simulator/on_gpu.py [pytest options]`.

The programs of the tests are built by nvcc instead, with the PTX side of csrc/cuda/device.h, and the tests that hold on
a GPU too run in them: what each operation computes, and the products of the kernels.
"""

import shutil
import sys
from pathlib import Path

import pytest
import simulated

PRIMITIVES = "none and forward and (mma or matrices or shuffles or votes) or none and (types or m16n8k8)"
PRODUCTS = "reference or strides or table or generic"


def build(sources: list[Path], sanitizer: str = "none", architecture: str = "native") -> Path:
    """As simulated.build, for a GPU."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise RuntimeError("on_gpu.py needs nvcc on the PATH")
    directories = (simulated.KERNELS, simulated.REPOSITORY / "csrc", simulated.HERE)
    includes = [f"-I{directory}" for directory in directories]
    units = [str(simulated.HERE / "server.cpp"), *map(str, sources)]
    command = ["-std=c++17", "-O2", f"-arch={architecture}", *includes, "-x", "cu", *units]

    def inputs() -> list[bytes]:
        headers = sorted(file for directory in directories for file in directory.glob("*.h"))
        return [file.read_bytes() for file in (*map(Path, units), *headers)]

    return simulated.once(nvcc, command, "program-gpu", inputs)


def main() -> int:
    simulated.build = build
    selected = {"test_primitives.py": PRIMITIVES, "test_products.py": PRODUCTS}
    return max(
        pytest.main([str(simulated.HERE / name), "-k", expression, *sys.argv[1:]])
        for name, expression in selected.items()
    )


if __name__ == "__main__":
    sys.exit(main())
