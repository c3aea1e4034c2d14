"""Files that appear whole or not at all, folders to write to, and the error of those that can't be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class SinkError(ValueError):
    """Raised for an output that can't be written; says in one line what was expected, what came, the mend."""


def prepare_folder(job: str, folder: Path) -> None:
    """Make a job's output folder and write to it once, so that a bad one shows before minutes of work.

    Raises:
        SinkError: it can't be made, or written to.
    """
    part = part_of(folder / "report.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as error:
        raise SinkError(
            f"{job}: expected a folder to write to, got {str(folder)!r}: {error.strerror}; choose another with --out"
        ) from error


def part_of(path: Path) -> Path:
    """A temporary name in the folder of ``path``: hidden, and of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def whole_file(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a temporary path, which takes the final name if the block ends well and is removed if not.

    Args:
        path: the final name; a file that has it stays until the block ends.
        durable: wait until the contents are on the disk before the name changes, so that a file is whole even after a
            power failure. A checkpoint is worth the milliseconds; the frames of a video are not.
    """
    path = Path(path)
    part = part_of(path)
    try:
        yield part
        if durable:
            flush(part)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until what is written of a file is on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
