"""Files that appear whole or not at all. For every part of `lowlat` that writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def part_of(path: Path) -> Path:
    """The temporary name beside ``path``, hidden and of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


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
