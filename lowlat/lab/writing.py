"""Errors of writing files of weights and states, such as a full disk or a missing permission, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writable(job: str, path: str | Path) -> Iterator[None]:
    """Turn an error of the block, which must do nothing but write a file, into one that names the file: neither Python
    nor PyTorch says which disk is full.

    Args:
        job: the command that writes, for the message.
        path: the file.

    Raises:
        OSError: it can't be written; the error names it, and the mend.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise OSError(
            f"{job}: expected to write {str(path)!r}, got {words}; make room there, or choose another folder"
        ) from error
