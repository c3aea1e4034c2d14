"""Folders and files to write to, and the error of those that can't be written."""

from __future__ import annotations

from pathlib import Path

from lowlat.files import part_of


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
