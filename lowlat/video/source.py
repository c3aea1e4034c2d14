"""`open_source` opens a source of frames: a video file, a folder of images, a camera or a network address."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lowlat.video.container import ANSWER_S, ContainerSource
from lowlat.video.frames import Source, SourceError
from lowlat.video.images import ImageFolder
from lowlat.video.listing import is_pattern
from lowlat.video.pipe import is_pipe, stdin_source

__all__ = ["Source", "SourceError", "open_source"]

LIVE_SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "rtp", "udp", "srt"})
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


def open_source(spec: str | Path, *, resize: tuple[int, int] | None = None) -> Source:
    """Open a source as a command line names it. The first frame is decoded at once, so that a bad source shows here.

    Args:
        spec: a video file, a folder of images (sorted naturally), ``img%03d.png`` or a glob for some of them, a
            camera's number, an address (``rtsp://``, ``http://``, ``https://``), or ``-`` for standard input.
        resize: scale every frame to ``(width, height)``.

    Raises:
        SourceError: there is nothing, or nothing that can be read as video.
        ValueError: ``resize`` is not two whole numbers of at least 1.
    """
    spec = str(spec)
    if resize is not None and (len(resize) != 2 or min(resize) < 1):
        raise ValueError(f"open_source: expected resize=(width, height) of at least 1, got {resize!r}")
    if address := _ADDRESS.match(spec):
        live = address[1].lower() in LIVE_SCHEMES
        options = {"rtsp_transport": "tcp"} if address[1].lower() == "rtsp" else {}
        return ContainerSource(
            spec, spec, "a video at an address", resize, live=live, options=options, timeout=(ANSWER_S,) * 2
        )
    if is_pipe(spec):
        return stdin_source(resize)
    if spec.isdecimal():
        return _camera(int(spec), resize)
    path = Path(spec)
    if path.is_dir() or (not path.exists() and is_pattern(spec)):
        return ImageFolder(spec, resize)
    if not path.exists():
        raise SourceError(
            f"open_source: expected a video file, a folder of images, a camera number or an address, "
            f"found nothing at {spec!r}; check the path"
        )
    # Without "file:" FFmpeg would take what stands before a colon in a path for a protocol.
    return ContainerSource(f"file:{path}", spec, "a video file", resize, live=False)


def _camera(index: int, resize: tuple[int, int] | None) -> Source:
    if sys.platform not in _CAMERAS:
        raise SourceError(
            f"open_source: expected a camera on {' or '.join(_CAMERAS)}, "
            f"got camera {index} on {sys.platform}; give an address"
        )
    form, pattern = _CAMERAS[sys.platform]
    device = pattern.format(index)
    if device.startswith("/") and not Path(device).exists():
        there = ", ".join(sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))) or "none"
        raise SourceError(
            f"open_source: expected camera {index} at {device}, found no such device (cameras there: "
            f"{there}); plug it in, or write './{index}' for a file of that name"
        )
    return ContainerSource(device, f"camera {index}", "a camera", resize, live=True, form=form)
