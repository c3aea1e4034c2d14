"""Labels one video of a batch, from its file to a folder that is whole or absent. It runs in the workers, wherever they
are."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import socket
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lowlat import models
from lowlat.jobs.cameras import in_one_line
from lowlat.jobs.segment import segment
from lowlat.jobs.workers import Failed
from lowlat.video.files import SinkError, flush

WRITTEN = ("rle", "grey", "palette", "overlay")
REPORT, OVERLAY = "report.json", "overlay.mp4"


@dataclass(frozen=True)
class Task:
    """A video to label.

    Args:
        source: the video's file.
        folder: the folder of its result.
        write: one of `WRITTEN`.
        options: arguments of :func:`lowlat.jobs.segment.segment`.
        made_from: what :func:`made_from` says of the result.
        cores: how many threads to use, on a CPU.
    """

    source: str
    folder: str
    write: str
    options: dict[str, Any]
    made_from: dict[str, Any]
    cores: int


def prepared_weights(weights: str | Path) -> tuple[str, str]:
    """Return weights as any worker finds them, and a word that changes with their contents."""
    if ":" in str(weights) and not Path(weights).is_file():
        return str(weights), str(weights)
    path = models.find(weights)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return (str(weights) if str(weights) in models.MODELS else str(path.absolute())), digest


def made_from(source: Path, write: str, options: dict[str, Any], weights: str) -> dict[str, Any]:
    """Return what a result depends on: if it is equal for two results, all their labels are equal.

    Args:
        weights: the word that :func:`prepared_weights` returns for them.
    """
    kept = {name: value for name, value in options.items() if name != "weights"}
    # Which of several GPUs it was makes no difference.
    kept["device"] = str(kept["device"]).partition(":")[0]
    version = importlib.metadata.version("svconv")
    made = {"input": _stamp(source), "weights": weights, "write": write, "options": kept, "version": version}
    # This is compared with a report that is read back, which has lists and plain names.
    return json.loads(json.dumps(made))


def whole_result(task: Task) -> bool:
    """Whether the result is there as it was left, made from the same input in the same way."""
    folder = Path(task.folder)
    try:
        report = json.loads((folder / REPORT).read_text())
        files = {name: (folder / name).stat().st_size for name in report["files"]}
        return report["made_from"] == task.made_from and report["files"] == files
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_parts(task: Task) -> None:
    """Remove what workers that died have left of a result."""
    folder = Path(task.folder)
    names = re.compile(rf"\.{re.escape(folder.name)}\.[\w-]+\.part")
    with suppress(OSError):
        for path in folder.parent.iterdir():
            if names.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def label_video(task: Task) -> dict[str, Any] | Failed:
    """Label a video under a temporary name, which becomes the final one when all is done. Return its report, or the
    error."""
    folder = Path(task.folder)
    host = re.sub(r"[^\w-]+", "-", socket.gethostname(), flags=re.ASCII)
    part, before = (folder.with_name(f".{folder.name}.{host}{old}-{os.getpid()}.part") for old in ("", "-before"))
    told = io.StringIO()
    try:
        _check_place(folder)
        part.mkdir(parents=True)
        torch.set_num_threads(task.cores)
        labels = {} if task.write == "overlay" else {"labels": task.write, "names": "index"}
        output = part / OVERLAY if task.write == "overlay" else part
        # Only the batch as a whole prints messages.
        with redirect_stderr(told):
            report = segment(task.source, output, mode="blocking", **labels, **task.options)
        if report.interrupted:
            raise KeyboardInterrupt
        if _stamp(Path(task.source)) != task.made_from["input"]:
            return Failed("batch: expected a recorded video, got one that was written to meanwhile; begin again")
        notices = told.getvalue().splitlines()
        files = {path.name: path.stat().st_size for path in part.iterdir()}
        found = {**report.as_dict(), "output": str(folder), "notices": notices, "files": files}
        (part / REPORT).write_text(json.dumps({**found, "made_from": task.made_from}, indent=1) + "\n")
        flush(part / REPORT)
        if folder.exists():
            # It has other options, or is damaged. If it were removed by half it would not be recognised again.
            folder.rename(before)
        part.rename(folder)
        return found
    except Exception as error:
        return Failed(in_one_line(error))
    finally:
        for path in (part, before):
            shutil.rmtree(path, ignore_errors=True)


def _check_place(folder: Path) -> None:
    """Refuse to put a result in the place of something else.

    Raises:
        SinkError: in its place is something that no batch has made.
    """
    if folder.is_symlink() or (folder.exists() and not _only_a_result(folder)):
        raise SinkError(
            f"batch: expected a free place or an earlier result at {str(folder)!r}, got something else; move it away, "
            "or choose another folder with --output"
        )


def _only_a_result(folder: Path) -> bool:
    """Whether a folder holds nothing but what a batch has left there. Other runs leave a report.json too."""
    try:
        report = json.loads((folder / REPORT).read_text())
        ours = {REPORT, *report["files"]} if "made_from" in report else set()
        return all(path.name in ours for path in folder.iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stamp(path: Path) -> dict[str, int]:
    about = path.stat()
    return {"bytes": about.st_size, "modified_ns": about.st_mtime_ns}
