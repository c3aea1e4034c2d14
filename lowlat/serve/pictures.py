"""Pictures for viewers, each made once for all of them: frames as JPEG, labels as PNG, the drawn overlay."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from PIL import Image, UnidentifiedImageError

from lowlat.classes import Classes
from lowlat.serve.labelling import Labelled
from lowlat.video.overlay import Overlay

JPEG_QUALITY = 80
MOST_PIXELS = 4096 * 2304
"""Pixels of a picture that is posted, at most: looked at before it is decoded."""


def decoded(data: bytes) -> np.ndarray:
    """Decode a picture that a client sent to uint8 RGB ``(H, W, 3)``.

    Raises:
        ValueError: it is no JPEG, PNG or WebP, is damaged, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(
                    f"serve: expected a frame of at most {MOST_PIXELS} pixels, got {picture.width}x{picture.height}; "
                    "scale it down"
                )
            return np.asarray(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"serve: expected a JPEG, PNG or WebP picture, got {len(data)} other bytes") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"serve: expected a whole picture, got {len(data)} bytes of a damaged one: {error}") from error


def jpeg(frame: np.ndarray) -> bytes:
    """Encode a frame, uint8 RGB ``(H, W, 3)``, as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "jpeg", quality=JPEG_QUALITY)
    return stream.getvalue()


def label_png(labels: np.ndarray, classes: Classes) -> bytes:
    """Encode labels, uint8 ``(H, W)``, as a PNG of class indices with the classes' colours as its palette."""
    image = Image.fromarray(labels)
    image.putpalette([channel for colour in classes.palette for channel in colour])
    stream = io.BytesIO()
    image.save(stream, "png", compress_level=1)
    return stream.getvalue()


def overlay_jpeg(labelled: Labelled, classes: Classes) -> bytes:
    """Draw the picture with labels, legend and status as `lowlat segment` does, and encode it as JPEG."""
    height, width = labelled.result.labels.shape
    return jpeg(Overlay(classes.names, classes.palette, (width, height)).draw(labelled.frame, labelled.result))


def page_picture(labelled: Labelled, classes: Classes, about: dict[str, object]) -> bytes:
    """Pack a frame and its labels in one message: four bytes, big-endian, with the length of the part that follows,
    which is ``about`` as JSON with the length of the JPEG as ``jpeg``; then the JPEG; then the PNG of the labels."""
    frame = jpeg(labelled.frame)
    head = json.dumps({**about, "jpeg": len(frame)}).encode()
    return len(head).to_bytes(4, "big") + head + frame + label_png(labelled.result.labels, classes)


class MadeOnce:
    """Makes pictures of a video's newest frame, each kind once, and gives the same one to all who ask for it.

    Args:
        pool: the threads that make them, off the event loop.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._made: dict[str, tuple[int, asyncio.Future[bytes]]] = {}

    async def get(self, kind: str, number: int, make: Callable[[], bytes]) -> bytes:
        """Return what ``make`` gives for frame ``number``, made by the first who asks."""
        held = self._made.get(kind)
        if held is None or held[0] != number:
            future = asyncio.get_running_loop().run_in_executor(self._pool, make)
            held = self._made[kind] = (number, future)
        # A viewer who disconnects must not cancel the picture for the others.
        return await asyncio.shield(held[1])
