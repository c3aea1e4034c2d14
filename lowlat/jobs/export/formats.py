"""The two formats that stages are exported to, each checked by running what was written."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lowlat.jobs.export.parts import Stage

FORMATS = {"onnx": ".onnx", "aoti": ".pt2"}
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3
"""How far a result may lie from the network's, over its largest size: only the order of sums may differ."""


def write(form: str, stage: Stage, path: Path) -> float:
    """Write a stage in a format, run the file on the stage's example and compare.

    Returns:
        the largest difference of any output from the network's, over the output's largest size; of labels the share
        that differs.

    Raises:
        RuntimeError: the compiler, or the file, failed; or its results are others.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch warns about its own internals here.
        warnings.simplefilter("ignore")
        got = {"onnx": _onnx, "aoti": _aoti}[form](stage, path)
    return _difference(f"{form} {stage.name}", stage, got)


def _onnx(stage: Stage, path: Path) -> list[Tensor]:
    import onnxruntime

    names = {"input_names": list(stage.inputs), "output_names": list(stage.outputs)}
    inputs = tuple(stage.inputs.values())
    torch.onnx.export(stage.module, inputs, path, dynamo=True, external_data=False, verbose=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(list(stage.outputs), {name: np.asarray(tensor) for name, tensor in stage.inputs.items()})
    return [torch.from_numpy(np.array(array)) for array in found]


def _aoti(stage: Stage, path: Path) -> list[Tensor]:
    inputs = tuple(stage.inputs.values())
    program = torch.export.export(stage.module, inputs)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return list(torch._inductor.aoti_load_package(str(path))(*inputs))


def check_ready(forms: tuple[str, ...]) -> None:
    """See that what the formats need is there, before any work.

    Raises:
        ModuleNotFoundError: a package of the extra "export" is missing.
        RuntimeError: no C++ compiler for AOTInductor.
    """
    if "onnx" in forms:
        for package in PACKAGES:
            importlib.import_module(package)
    if "aoti" in forms:
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            compiler = get_cpp_compiler()
        except Exception:
            compiler = ""
        if not shutil.which(compiler):
            raise RuntimeError(
                "export: expected a C++ compiler for --format aoti, found none; install g++, or give --format onnx"
            )


def _difference(what: str, stage: Stage, found: list[Tensor]) -> float:
    worst = 0.0
    for (name, want), got in zip(stage.outputs.items(), found, strict=True):
        if got.shape != want.shape or got.dtype != want.dtype:
            raise RuntimeError(
                f"export: expected {name} of {what} to be {want.dtype} {tuple(want.shape)}, got {got.dtype} "
                f"{tuple(got.shape)}; report it with the versions that `lowlat info` prints"
            )
        if want.dtype is torch.uint8:
            worst = max(worst, (got != want).double().mean().item())
        else:
            worst = max(worst, ((got - want).abs().max() / want.abs().max().clamp(min=1e-6)).item())
    if not worst < TOLERANCE:
        raise RuntimeError(
            f"export: expected {what} to give the network's results within {TOLERANCE}, got {worst:.2g}; report it "
            "with the versions that `lowlat info` prints"
        )
    return worst
