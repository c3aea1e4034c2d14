"""`open_source` opens a source of frames: a video file, a folder of images, a camera or a network address."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lowlat.video.address import LIVE_SCHEMES, hide, scheme_of, shown, whole_address
from lowlat.video.container import ANSWER_S, ContainerSource
from lowlat.video.frames import Source, SourceError
from lowlat.video.images import ImageFolder, ImagePages, holds_pages
from lowlat.video.listing import is_pattern
from lowlat.video.pipe import is_pipe, stdin_source
from lowlat.video.reconnect import ReconnectingSource, opened_within, say_on_stderr
from lowlat.video.remux import named

__all__ = ["Source", "SourceError", "open_source"]

STALL_S = 10.0
"""After this many seconds without a frame a live source counts as lost."""
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


def open_source(
    spec: str | Path,
    *,
    resize: tuple[int, int] | None = None,
    reconnect_s: float = 0.0,
    stall_s: float = STALL_S,
    wait_s: float = 0.0,
    any_size: bool = False,
    say: Callable[[str], None] = say_on_stderr,
) -> Source:
    """Open a source as a command line names it. The first frame is decoded at once, so that a bad source shows here.

    Args:
        spec: a video file, a folder of images (sorted naturally), ``img%03d.png`` or a glob for some of them, a
            camera's number, an address (``rtsp://``, ``http://``, ``https://``), or ``-`` for standard input.
        resize: scale every frame to ``(width, height)``.
        reconnect_s: seconds for which a live source that was lost is waited for, infinity for ever. It can come back
            with frames of another size.
        stall_s: seconds without a frame after which an address counts as lost.
        wait_s: seconds for which a camera or an address that can't be opened at first is tried again.
        any_size: hand out frames of other sizes than the first as they come; otherwise they are an error.
        say: gets one line for each loss and each return of a live source.

    Raises:
        SourceError: there is nothing, or nothing that can be read as video; while frames are read, also that a live
            source is lost for good.
        ValueError: ``resize`` is not two whole numbers of at least 1; ``reconnect_s``, ``stall_s`` or ``wait_s`` is no
            such time.
    """
    spec = whole_address(str(spec))
    if resize is not None and (len(resize) != 2 or min(resize) < 1):
        raise ValueError(f"open_source: expected resize=(width, height) of at least 1, got {resize!r}")
    if not stall_s > 0:
        raise ValueError(f"open_source: expected stall_s above 0 seconds, got {stall_s!r}; the default is {STALL_S:g}")
    for name, seconds in (("reconnect_s", reconnect_s), ("wait_s", wait_s)):
        if not seconds >= 0:
            raise ValueError(f"open_source: expected {name} of 0 seconds or more, got {seconds!r}; 0 gives up at once")
    frames = {"resize": resize, "any_size": any_size}
    if scheme_of(spec):
        opening = partial(_address, spec, stall_s, **frames)
        return _lasting(opening, reconnect_s, opened_within(wait_s, opening, shown(spec), say=say), say)
    if is_pipe(spec):
        return stdin_source(**frames)
    if spec.isdecimal():
        opening = partial(_camera, int(spec), **frames)
        return _lasting(opening, reconnect_s, opened_within(wait_s, opening, f"camera {spec}", say=say), say)
    if not spec:
        # It would be the folder at hand.
        raise SourceError("open_source: expected the name of a source, got an empty one; '.' is the folder at hand")
    path = Path(spec)
    if path.is_dir() or (not path.exists() and is_pattern(spec)):
        return ImageFolder(spec, **frames)
    if not path.exists():
        raise SourceError(
            f"open_source: expected a video file, a folder of images, a camera number or an address, "
            f"found nothing at {shown(spec)!r}; check the path"
        )
    if holds_pages(path):
        return ImagePages(path, **frames)
    return ContainerSource(named(path), spec, "a video file", live=False, **frames)


def _lasting(opening: Callable[[], Source], reconnect_s: float, source: Source, say: Callable[[str], None]) -> Source:
    """Make a source that ``opening`` has opened come back if it is live."""
    return ReconnectingSource(opening, source, reconnect_s=reconnect_s, say=say) if source.live else source


def _address(spec: str, stall_s: float, **frames: Any) -> Source:
    scheme = scheme_of(spec)
    live = scheme in LIVE_SCHEMES
    options = {"rtsp_transport": "tcp"} if scheme == "rtsp" else {}
    # FFmpeg looks at some frames before it is done with opening.
    timeout = (max(ANSWER_S, stall_s), stall_s)
    try:
        return ContainerSource(
            spec, shown(spec), "a video at an address", live=live, options=options, timeout=timeout, **frames
        )
    except SourceError as error:
        hide(error, spec)
        raise


def _camera(index: int, **frames: Any) -> Source:
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
    return ContainerSource(device, f"camera {index}", "a camera", live=True, form=form, **frames)
