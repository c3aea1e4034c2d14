"""The job behind `lowlat info`: what is installed and built, for users and bug reports."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np
import torch

import svconv
from lowlat import models
from lowlat.runtime.cpu.threads import cores_at_hand

LICENCES = {
    "code": "MIT",
    "weights": "non-commercial: they are trained on CamVid (lowlat/weights/LICENSE)",
}


def info() -> dict[str, object]:
    """Versions, licences, the operator's build, cores and GPUs at hand, shipped weights with their metadata."""
    weights: dict[str, object] = {}
    for path in sorted(models.WEIGHTS.glob("*.safetensors")):
        _, metadata = models.read_safetensors(path)
        told = {name: value for name, value in metadata.items() if name != "palette"}
        weights[path.stem] = {"megabytes": round(path.stat().st_size / 1e6, 2), **told}
    return {
        "lowlat": importlib.metadata.version("svconv"),
        "licences": LICENCES,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pyav": _version("av"),
        "cores": cores_at_hand(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] or "none",
        "svconv": {**svconv.build_info(), "backends": [backend.name for backend in svconv.backends()]},
        "weights": weights or "none",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
