"""Confirms the simulator on the GPU at hand: `python tests/simulator/on_gpu.py [pytest options]`.

The programs of the tests are built by nvcc instead, with the PTX side of csrc/cuda/device.h, and the tests that hold on
a GPU too run in them: what each operation computes, and the products of the kernels.
"""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import simulated

PRIMITIVES = "none and forward and (mma or matrices or shuffles or votes) or none and (types or m16n8k8)"
PRODUCTS = "reference or strides or table or generic or never_lost or tf32_rounds or tf32_is"


def nvcc() -> str:
    found = shutil.which("nvcc")
    if found is None:
        raise RuntimeError("on_gpu.py needs nvcc on the PATH")
    return found


def compile(source: Path, architecture: str = "native") -> Path:
    """Compiles what simulated.compile does, by nvcc for a GPU."""
    directories = (simulated.KERNELS, simulated.REPOSITORY / "csrc", simulated.HERE)
    includes = [f"-I{directory}" for directory in directories]
    command = ["-std=c++17", "-O2", f"-arch={architecture}", *includes, "-x", "cu", "-c", str(source)]

    def inputs() -> list[bytes]:
        headers = sorted(file for directory in directories for file in directory.glob("*.h"))
        return [file.read_bytes() for file in (source, *headers)]

    return simulated.once(nvcc(), command, f"{source.stem}-gpu.o", inputs)


def build(sources: list[Path], sanitizer: str = "none", architecture: str = "native") -> Path:
    """Builds what simulated.build does, for a GPU."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        units = [simulated.HERE / "server.cpp", *sources]
        objects = list(pool.map(partial(compile, architecture=architecture), units))
    return simulated.once(nvcc(), [f"-arch={architecture}", *map(str, objects)], "program-gpu")


def main() -> int:
    simulated.build = build
    selected = f"test_primitives and ({PRIMITIVES}) or test_products and ({PRODUCTS})"
    return pytest.main([str(simulated.HERE), "-k", selected, "-m", "not memory", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
