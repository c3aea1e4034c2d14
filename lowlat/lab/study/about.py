"""The machine and the versions that a study was made with, for its page and as inputs of the units that take times."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from pathlib import Path

import numpy as np
import torch

import svconv
from lowlat.runtime.cpu.threads import cores_at_hand
from lowlat.runtime.words import counted


@cache
def machine() -> str:
    """Return processor, cores at hand and instruction set, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return f"{name}, {counted(cores_at_hand(), 'core')}, {svconv.build_info()['active_instruction_set']}"


def versions() -> dict[str, str]:
    """Return the versions of this package, Python, PyTorch and NumPy, by name."""
    return {
        "lowlat": importlib.metadata.version("svconv"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
