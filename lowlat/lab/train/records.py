"""The files that a run leaves beside its weights: checkpoints, whole or not there at all, and the log of its steps."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lowlat.lab.writing import writable
from lowlat.video.files import whole_file


def save_state(path: Path, state: dict) -> None:
    """Write tensors and plain values in PyTorch's format; the file is whole whenever the process or machine dies.

    Raises:
        OSError: it can't be written.
    """
    with writable("train", path), whole_file(path, durable=True) as part, part.open("wb") as file:
        torch.save(state, file)


def load_state(path: Path) -> dict:
    """Read what :func:`save_state` wrote, onto the CPU; ``ValueError`` where it is no such file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"train: expected a checkpoint at {path}, got one that can't be read ({error}); remove it to start afresh"
        ) from error


class Log:
    """The log of a run: one JSON object a line and a step.

    Lines of step ``start`` and later ones, which a run that was killed has left, are taken out first.

    Args:
        path: the file of lines; TensorBoard's files go to a folder of that name without its ending.
        start: the step that the run goes on from.
        tensorboard: whether to write TensorBoard's files.

    Raises:
        ImportError: TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, start: int, *, tensorboard: bool = False):
        self.path = path
        self.board = summary_writer(path.with_suffix(""), start) if tensorboard else None
        kept = [line for line in _rows(path) if json.loads(line)["step"] < start]
        with writable("train", path), whole_file(path, durable=True) as part:
            part.write_text("".join(f"{line}\n" for line in kept))

    def write(self, step: int, **figures: float) -> None:
        with writable("train", self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        if self.board is not None:
            for name, figure in figures.items():
                self.board.add_scalar(name, figure, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _rows(path: Path) -> list[str]:
    """Return the lines of a log; the last one may have been cut by a kill."""
    return [line for line in path.read_text().splitlines() if line.endswith("}")] if path.is_file() else []


def summary_writer(folder: Path, start: int):
    """TensorBoard's writer; steps from ``start`` on that an earlier run left are hidden."""
    return check_tensorboard()(folder, purge_step=start)


def check_tensorboard() -> type:
    """Return the class of TensorBoard's writer; ``ImportError`` where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("train: expected TensorBoard, found none; pip install tensorboard") from error
    return SummaryWriter
