"""Files of weights and states that can't be written: a full disk or a folder without permission, told in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = (None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk; PyTorch gives no number."""


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
        room = "make room there, or " if getattr(error, "errno", None) in NO_ROOM else ""
        raise OSError(f"{job}: expected to write {str(path)!r}, got {words}; {room}choose another folder") from error
