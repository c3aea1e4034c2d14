"""Files that appear whole or not at all, folders to write to, and `SinkError` for those that can't be written."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILES = frozenset({".html", ".htm", ".json", ".mp4", ".mkv", ".mov"})
"""Suffixes of files: an output that is called like this is not meant as a folder."""
LONGEST_NAME = 255
"""Bytes that the name of a file has at most, on the usual file systems."""
FLUSH_S = 5.0
"""Seconds between two times that written files are brought to the disk, in case the power fails."""


class SinkError(ValueError):
    """Raised for an output that can't be written. Its message says in one line what was expected, what came, and the
    mend."""


def prepare_folder(job: str, folder: Path, option: str = "--out") -> None:
    """Make a job's output folder and write to it once, so that a bad one shows before minutes of work.

    Args:
        job: the command that needs it, for the message.
        folder: the folder.
        option: the option of the command line that names it, for the message.

    Raises:
        SinkError: it can't be made or written to, or is called like a file.
    """
    if folder.suffix.lower() in FILES and not folder.is_dir():
        raise SinkError(
            f"{job}: expected a folder to write to, got {str(folder)!r}, a file's name; name a folder with {option}, "
            "which the files go into"
        )
    part = part_of(folder / "report.json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as error:
        raise SinkError(
            f"{job}: expected a folder to write to, got {str(folder)!r}: {error.strerror}; choose another with {option}"
        ) from error


def part_of(path: Path) -> Path:
    """Make a temporary name in the folder of ``path``, which is hidden and used by this process alone. It is never too
    long for the file system if the name of ``path`` is not."""
    name = f".{path.name}.{os.getpid()}.part"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.{os.getpid()}.part"
    return path.with_name(name)


@contextmanager
def whole_file(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path, whose file takes the final name if the block ends well and is removed if not.

    Args:
        path: the final name; a file that has it stays until the block ends.
        durable: whether to wait until the contents are on the disk before the name changes, so that a file is whole
            even after a power failure. A checkpoint is worth the milliseconds; the frames of a video are not.
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


class SteadyFlush:
    """Brings files that grow, or have been written, to the disk every `FLUSH_S` seconds, on a thread of its own, so
    that the writer never waits for a slow disk."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._flushed, self._thread = time.monotonic(), threading.Thread()

    def written(self, path: Path) -> None:
        """Take note of a file that has been written to."""
        self._paths.add(path)
        # If the disk takes longer than that, no second thread is started.
        if time.monotonic() - self._flushed > FLUSH_S and not self._thread.is_alive():
            paths, self._paths, self._flushed = self._paths, set(), time.monotonic()
            self._thread = threading.Thread(target=_flush_all, args=(paths,), name="flush", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Bring to the disk what is not there yet, and wait for it."""
        _flush_all(self._paths)
        self._paths.clear()


def _flush_all(paths: Iterable[Path]) -> None:
    for path in paths:
        # The file may have been renamed meanwhile.
        with suppress(OSError):
            flush(path)
