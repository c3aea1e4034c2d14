"""What a run leaves beside its weights: checkpoints that appear whole or not at all, and the log of its steps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import torch


def write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file that is there whole or not at all, whenever the process or the machine dies."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def save_state(path: Path, state: dict) -> None:
    """Tensors and plain values, in PyTorch's format."""
    write_whole(path, lambda file: torch.save(state, file))


def load_state(path: Path) -> dict:
    """What :func:`save_state` wrote, on the CPU; ``ValueError`` where it is no such file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"train: expected a checkpoint at {path}, got one that can't be read ({error}); remove it to start afresh"
        ) from error


class Log:
    """One JSON object a line and a step; rows from ``start`` on, of a run that was killed, are taken out first.

    Args:
        path: the file of lines; TensorBoard's files go to a folder of that name without its ending.
        start: the step that the run goes on from.
        tensorboard: write them too.

    Raises:
        ImportError: TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, start: int, *, tensorboard: bool = False):
        self.path = path
        self.board = summary_writer(path.with_suffix(""), start) if tensorboard else None
        kept = [line for line in _rows(path) if json.loads(line)["step"] < start]
        write_whole(path, lambda file: file.write("".join(f"{line}\n" for line in kept).encode()))

    def write(self, step: int, **figures: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        if self.board is not None:
            for name, figure in figures.items():
                self.board.add_scalar(name, figure, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _rows(path: Path) -> list[str]:
    """The lines of a log; the last one may have been cut by a kill."""
    return [line for line in path.read_text().splitlines() if line.endswith("}")] if path.is_file() else []


def summary_writer(folder: Path, start: int):
    """TensorBoard's writer; steps from ``start`` on that an earlier run left are hidden."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("train: expected TensorBoard, found none; pip install tensorboard") from error
    return SummaryWriter(folder, purge_step=start)
