"""`prepare_folder` gets a job's output folder ready; `SinkError` is raised for outputs that can't be written."""

from __future__ import annotations

from pathlib import Path

from lowlat.files import part_of


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
