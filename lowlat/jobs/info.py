"""The job behind `lowlat info`: what is installed and built, for users and bug reports."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress
from pathlib import Path

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
    """Return versions, licences, the operator's build, cores and GPUs at hand, and the shipped weights with their
    metadata."""
    weights: dict[str, object] = {}
    for path in sorted(models.WEIGHTS.glob("*.safetensors")):
        _, metadata = models.read_safetensors(path)
        told = {name: value for name, value in metadata.items() if name != "palette"}
        weights[path.stem] = {"megabytes": round(path.stat().st_size / 1e6, 2), **told}
    version, *rest = machine().items()
    return {**dict([version]), "licences": LICENCES, **dict(rest), "weights": weights or "none"}


def machine() -> dict[str, object]:
    """Return what a run ran on and with: versions, the operator's build, processor, cores and GPUs at hand."""
    return {
        "lowlat": importlib.metadata.version("svconv"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pyav": _version("av"),
        "processor": _processor(),
        "cores": cores_at_hand(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] or "none",
        "svconv": {**svconv.build_info(), "backends": [backend.name for backend in svconv.backends()]},
    }


def _processor() -> str:
    """Return the processor's name if the system tells it, else its architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
