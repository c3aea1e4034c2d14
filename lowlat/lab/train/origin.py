"""What a run starts from, as strings that its checkpoint keeps: told by content, wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from lowlat import models


def weights_digest(source: str | Path) -> str:
    """A hash of weights: a shipped network's name or a file."""
    return _hash(models.find(source).read_bytes())


def videos_digest(paths: Sequence[str | Path]) -> str:
    """Each video's name with a hash of its size; of a folder, of its files' names and sizes."""
    return ", ".join(f"{path.name} {_hash(_sizes(path).encode())}" for path in map(Path, paths)) or "none"


def _sizes(path: Path) -> str:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return "\n".join(f"{file.name} {file.stat().st_size}" for file in files if file.is_file())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
