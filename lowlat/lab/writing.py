"""Files of weights and states that can't be written: a full disk or a folder without permission, told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writable(job: str, path: str | Path) -> Iterator[None]:
    """Around a block that does nothing but write a file: neither Python nor PyTorch says where a disk is full.

    Args:
        job: whose complaint it is.
        path: the file.

    Raises:
        OSError: it can't be written; names it, and the mend.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise OSError(
            f"{job}: expected to write {str(path)!r}, got {words}; make room there, or choose another folder"
        ) from error
