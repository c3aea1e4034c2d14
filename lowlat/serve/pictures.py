"""Pictures for viewers: frames as JPEG, labels as PNG, the drawn overlay; each made once, however many look on."""

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
    """A picture that a client sent, as uint8 RGB ``(H, W, 3)``.

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
    """A frame, uint8 RGB ``(H, W, 3)``, as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "jpeg", quality=JPEG_QUALITY)
    return stream.getvalue()


def label_png(labels: np.ndarray, classes: Classes) -> bytes:
    """Labels, uint8 ``(H, W)``, as a PNG of class indices with the classes' colours as its palette."""
    image = Image.fromarray(labels)
    image.putpalette([channel for colour in classes.palette for channel in colour])
    stream = io.BytesIO()
    image.save(stream, "png", compress_level=1)
    return stream.getvalue()


def overlay_jpeg(labelled: Labelled, classes: Classes) -> bytes:
    """The picture with labels, legend and status that `lowlat segment` draws, as JPEG."""
    height, width = labelled.result.labels.shape
    return jpeg(Overlay(classes.names, classes.palette, (width, height)).draw(labelled.frame, labelled.result))


def page_picture(labelled: Labelled, classes: Classes, about: dict[str, object]) -> bytes:
    """A frame and its labels in one message: how long the next part is, 4 bytes, the highest first; ``about`` as JSON,
    with the length of the JPEG as ``jpeg``; the JPEG; the PNG."""
    frame = jpeg(labelled.frame)
    head = json.dumps({**about, "jpeg": len(frame)}).encode()
    return len(head).to_bytes(4, "big") + head + frame + label_png(labelled.result.labels, classes)


class MadeOnce:
    """What is made of a video's newest frame: of each kind one at a time is kept, and shared by all who ask for it.

    Args:
        pool: where it is made, off the event loop.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._made: dict[str, tuple[int, asyncio.Future[bytes]]] = {}

    async def get(self, kind: str, number: int, make: Callable[[], bytes]) -> bytes:
        """What ``make`` gives for frame ``number``, made by the first who asks."""
        held = self._made.get(kind)
        if held is None or held[0] != number:
            future = asyncio.get_running_loop().run_in_executor(self._pool, make)
            held = self._made[kind] = (number, future)
        # A viewer who goes must not take it from the others.
        return await asyncio.shield(held[1])
