"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def part_of(path: Path) -> Path:
    """The temporary name beside ``path``, hidden and of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


class SinkError(ValueError):
    """An output that can't be written: what was expected, what came, the mend, in one line."""


def prepare_folder(job: str, folder: Path) -> None:
    """Make the output folder of a job and try it, before minutes of work.

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


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path, which takes the final name if the block ends well and is removed if not."""
    path = Path(path)
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
