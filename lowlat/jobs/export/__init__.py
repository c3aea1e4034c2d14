"""The job behind `lowlat export`: a network's stages as ONNX files and AOTInductor packages, for other programs.

`parts.py` makes modules of tensors of them, `formats.py` writes and checks each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from lowlat import models
from lowlat.jobs.export.formats import FORMATS, check_ready, write
from lowlat.jobs.export.parts import Stage, stages
from lowlat.jobs.progress import progress_bar
from lowlat.jobs.untrained import check_trained
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.options import Options, prepared
from lowlat.runtime.stages import working_size
from lowlat.schedule.machine import DEFAULT_AGE_BOUND, DEFAULT_REBASE, DEFAULT_STEPS
from lowlat.video.files import SinkError, part_of

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class Exported:
    """The report of :func:`export`."""

    folder: str
    size: list[int]
    """Width and height of the frames that the files take."""
    files: list[str]
    differences: dict[str, float]
    """By file, the largest difference from the network's results; of labels the share that differs."""
    notice: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def export(
    weights: VideoNetwork | str | Path,
    out: str | Path,
    *,
    size: tuple[int, int],
    form: str = "both",
    console: Console | None = None,
) -> Exported:
    """Write the stages of a network for frames of one size, and a manifest that says how they fit together.

    Every file is run on an example after it is written, and compared with the network.

    Args:
        weights: a shipped network's name, a file, or a network.
        out: the folder to make; it appears whole or not at all. One that an export made before is replaced.
        size: ``(width, height)`` of the frames; brought to multiples of the network's, as for `lowlat segment`.
        form: ``"onnx"``, ``"aoti"`` or ``"both"``.
        console: where the progress bar goes; None for nowhere.

    Raises:
        ValueError: no such weights or format, start weights, or a folder that holds other things.
        RuntimeError: a compiler is missing or has failed, or a file gives other results than the network.
    """
    if form not in (*FORMATS, "both"):
        raise ValueError(f"export: expected --format onnx, aoti or both, got {form!r}; name one of them")
    forms = tuple(FORMATS) if form == "both" else (form,)
    out = Path(out)
    check_ready(forms)
    network = weights if isinstance(weights, VideoNetwork) else models.load(weights)
    notice = check_trained("export", network)
    width, height = size
    height, width = working_size(height, width, width * height, network.multiple)
    # The program that runs the files chooses layouts and 1x1 convolutions.
    network = prepared(network, Options(channels_last=False, pointwise=False))
    differences: dict[str, float] = {}
    entries = []
    with whole_folder(out) as part, progress_bar(console or Console(quiet=True)) as progress:
        task = progress.add_task("exporting", total=6 * len(forms))
        for stage in stages(network, (height, width)):
            files = {}
            for each in forms:
                files[each] = stage.name + FORMATS[each]
                differences[files[each]] = write(each, stage, part / files[each])
                progress.advance(task)
            entries.append(_entry(stage, files))
        about = _about(network, (height, width)) | {"stages": entries}
        (part / MANIFEST).write_text(json.dumps(about, indent=1))
    return Exported(str(out), [width, height], [*differences, MANIFEST], differences, notice)


def _about(network: VideoNetwork, size: tuple[int, int]) -> dict[str, Any]:
    """Return what a program needs to know beside the stages; normalisation is a part of the first one."""
    return {
        "version": VERSION,
        "network": network.name,
        "torch": torch.__version__,
        "tensors": "row by row in memory (C-contiguous), in and out",
        "frame": {"height": size[0], "width": size[1], "layout": "NHWC", "channels": "RGB", "dtype": "uint8"},
        "normalisation": {
            "where": "inside the stage lower",
            "mean": [round(value, 6) for value in network.mean.flatten().tolist()],
            "std": [round(value, 6) for value in network.std.flatten().tolist()],
            "of": "channels in [0, 1]",
        },
        "classes": {"names": list(network.legend.names), "palette": [list(each) for each in network.legend.palette]},
        "untrained": list(network.untrained),
        "schedule": {
            "threshold": network.threshold,
            "age_bound": DEFAULT_AGE_BOUND,
            "rebase": DEFAULT_REBASE,
            "steps": DEFAULT_STEPS,
        },
    }


def _entry(stage: Stage, files: dict[str, str]) -> dict[str, Any]:
    return {
        "name": stage.name,
        "does": stage.module.__doc__,
        "files": files,
        "inputs": _tensors(stage.inputs),
        "outputs": _tensors(stage.outputs),
    }


def _tensors(tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
        for name, tensor in tensors.items()
    ]


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder, which takes the final name if the block ends well and is removed if not.

    Raises:
        SinkError: ``folder`` holds something that no export made, or it can't be made.
    """
    if folder.resolve() in (here := Path.cwd(), *here.parents):
        raise SinkError(
            f"export: expected a folder to make, got {str(folder)!r}, which you are in; name one within it with -o"
        )
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise SinkError(
            f"export: expected a new folder, or one that an export made, got {str(folder)!r}; choose another with -o"
        )
    part, before = part_of(folder), folder.with_name(f".{folder.name}.{os.getpid()}.before")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
    except OSError as error:
        raise SinkError(
            f"export: expected a folder to write to, got {str(folder)!r}: {error.strerror}; choose another with -o"
        ) from error
    try:
        yield part
        if folder.exists():
            folder.rename(before)
        part.rename(folder)
    finally:
        for leftover in (part, before):
            shutil.rmtree(leftover, ignore_errors=True)
