"""The job behind `lowlat info`: what is installed and built, for users and bug reports."""

from __future__ import annotations

import importlib.metadata
import platform

import av
import numpy as np
import torch
from safetensors import safe_open

import svconv
from lowlat import models
from lowlat.runtime.cpu.threads import cores_at_hand


def info() -> dict[str, object]:
    """Versions, the operator's build, cores at hand, shipped weights with their metadata."""
    weights: dict[str, object] = {}
    for path in sorted(models.WEIGHTS.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        weights[path.stem] = {"megabytes": round(path.stat().st_size / 1e6, 2), **metadata}
    return {
        "lowlat": importlib.metadata.version("svconv"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pyav": av.__version__,
        "cores": cores_at_hand(),
        "svconv": {**svconv.build_info(), "backends": [backend.name for backend in svconv.backends()]},
        "weights": weights or "none",
    }
