"""What a run of training starts from, told by content wherever it lies: hashes that its checkpoint keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from lowlat import models

CHUNK = 1 << 20  # bytes read at a time


def weights_digest(weights: str | Path) -> str:
    """Return a hash of a file of weights; ``weights``: a shipped network's name or a file.

    Raises:
        ValueError: no such name or file.
    """
    return _file_hash(models.find(weights))


def videos_digest(videos: Sequence[str | Path]) -> str:
    """Return the name of each video with a hash of its bytes, comma-separated; ``"none"`` where there are no videos.

    A folder of images is one video: its hash is over the names and bytes of its files, in the order of their names.
    What is no file, such as a camera's address, is told by that address.
    """
    return ", ".join(f"{Path(video).name} {_video_hash(video)}" for video in videos) or "none"


def _video_hash(video: str | Path) -> str:
    path = Path(video)
    if path.is_file():
        return _file_hash(path)
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    lines = [f"{file.name} {_file_hash(file)}\n" for file in files] or [str(video)]
    return _digits(hashlib.blake2b("".join(lines).encode()))


def _file_hash(path: Path) -> str:
    """Return a hash of a file's bytes, read in pieces: a video may be larger than memory."""
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return _digits(digest)


def _digits(digest: hashlib.blake2b) -> str:
    return digest.hexdigest()[:16]
