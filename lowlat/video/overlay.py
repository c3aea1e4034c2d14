"""`Overlay` draws the picture that a person watches: frame, segmentation, legend, and how the labels came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lowlat.runtime.result import FrameResult

Colour = tuple[int, int, int]

GROUND: Colour = (22, 24, 29)
TEXT: Colour = (232, 234, 237)
DIM: Colour = (92, 98, 110)
TROUGH: Colour = (48, 52, 61)
BAR: Colour = (86, 180, 233)
LAMPS: dict[str, Colour] = {"KEY": (240, 200, 60), "S_h LANDED": (60, 200, 150), "DEGRADED": (235, 105, 85)}
WIDE = 2.0
"""From this ratio of width to height on, the plain frame stands above the segmentation, not beside it."""


def clock_time(time_s: float) -> str:
    """Return a time in the source in words: "0:02.28", or "1:02:03.45" from an hour on."""
    hundredths = round(time_s * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


class Overlay:
    """Draws results over frames. Make one for each video, since legend and fonts are prepared once.

    Args:
        classes: names, by index.
        palette: RGB, by index; pixels of other indices (void) are blended with black.
        size: ``(width, height)`` of the frames.
        beside: whether a second picture is shown beside the segmentation (above it for wide frames): the plain frame,
            or other labels of it.
        titles: names of the other labels and of the segmentation, written into their pictures.
        alpha: weight of the class colours over the frame, in [0, 1].
        full_ms: the latency at the right end of the bar.
        full_name: what that latency is, written beside the bar.
    """

    def __init__(
        self,
        classes: Sequence[str],
        palette: Sequence[Colour],
        size: tuple[int, int],
        *,
        beside: bool = False,
        titles: tuple[str, str] | None = None,
        alpha: float = 0.55,
        full_ms: float | None = None,
        full_name: str = "",
    ):
        self._frame_size, self._alpha, self._titles = size, alpha, titles
        self._palette = [channel for colour in palette for channel in colour]
        self._full_ms, self._full_name = full_ms, full_name
        width, height = size
        self._offset = (0, 0)
        if beside:
            self._offset = (0, height) if width >= WIDE * height else (width, 0)
        self._pictures = (width + self._offset[0], height + self._offset[1])
        self._unit = min(max(round(self._pictures[0] / 52), 10), 26)
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        self._font = ImageFont.truetype(fonts / "DejaVuSans.ttf", self._unit)
        self._bold = ImageFont.truetype(fonts / "DejaVuSans-Bold.ttf", round(self._unit * 0.9))
        self._row = round(self._unit * 1.9)
        lamps = [self._bold.getlength(name) + self._unit for name in LAMPS]
        widths = [self._font.getlength(words) for words in ("frame 00000", "0:00:00.00", "start-up", "0000 ms")]
        # In as many rows as a narrow picture needs: frame, time, lamps, age, latency.
        self._places = self._flow([*widths[:2], *lamps, *widths[2:]], 0.6 * self._unit)
        self._panel = self._draw_legend(classes, palette)

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` of what :meth:`draw` returns."""
        return self._pictures[0], self._pictures[1] + self._panel.height

    def draw(self, frame: np.ndarray, result: FrameResult, other: np.ndarray | None = None) -> np.ndarray:
        """Draw one picture, uint8 RGB ``(H', W', 3)``, from a frame ``(H, W, 3)`` and labels, uint8 ``(H, W)``.

        Args:
            other: labels to compare with, uint8 ``(H, W)``, drawn over the frame in the second picture.

        A frame of another size than the overlay's, as of a camera that came back with one, is scaled into it, with
        black borders where its shape is another.

        Raises:
            ValueError: frame and labels are not of one size, or there is no second picture for other labels.
        """
        width, height = self._frame_size
        if other is not None and (self._offset == (0, 0) or other.shape != result.labels.shape):
            raise ValueError(
                f"Overlay.draw: expected other labels {result.labels.shape} of an overlay with beside=True, got "
                f"{other.shape}, beside={self._offset != (0, 0)}; give both labels at the frame's size"
            )
        if frame.shape[:2] == result.labels.shape != (height, width):
            other = None if other is None else _fitted(other, self._frame_size, "L")
            frame, labels = _fitted(frame, self._frame_size, "RGB"), _fitted(result.labels, self._frame_size, "L")
            result = replace(result, labels=labels)
        if frame.shape != (height, width, 3) or result.labels.shape != (height, width):
            raise ValueError(
                f"Overlay.draw: expected a frame ({height}, {width}, 3) and labels ({height}, {width}), "
                f"got {frame.shape} and {result.labels.shape}"
            )
        picture = Image.fromarray(frame)
        canvas = Image.new("RGB", self.size, GROUND)
        if self._offset != (0, 0):
            canvas.paste(picture if other is None else self._blend(picture, other), (0, 0))
        canvas.paste(self._blend(picture, result.labels), self._offset)
        canvas.paste(self._panel, (0, self._pictures[1]))
        draw = ImageDraw.Draw(canvas)
        if result.key:
            self._draw_key(draw)
        if other is not None and self._titles is not None:
            self._draw_titles(draw)
        self._draw_status(draw, result)
        return np.asarray(canvas)

    def _blend(self, picture: Image.Image, labels: np.ndarray) -> Image.Image:
        colours = Image.fromarray(labels)
        colours.putpalette(self._palette)
        blended = Image.blend(picture, colours.convert("RGB"), self._alpha)
        edges = np.zeros(labels.shape, np.uint8)
        edges[:, 1:][labels[:, 1:] != labels[:, :-1]] = 150
        edges[1:][labels[1:] != labels[:-1]] = 150
        blended.paste((255, 255, 255), mask=Image.fromarray(edges))
        return blended

    def _draw_key(self, draw: ImageDraw.ImageDraw) -> None:
        left, top = self._offset
        right, bottom = left + self._frame_size[0] - 1, top + self._frame_size[1] - 1
        draw.rectangle((left, top, right, bottom), outline=LAMPS["KEY"], width=max(3, self._unit // 4))

    def _draw_titles(self, draw: ImageDraw.ImageDraw) -> None:
        unit = self._unit
        for title, (left, top) in zip(self._titles, ((0, 0), self._offset), strict=True):
            box = (left + unit * 0.6, top + unit * 0.6, left + unit * 1.8 + self._bold.getlength(title), top + unit * 2)
            draw.rounded_rectangle(box, unit * 0.4, fill=GROUND)
            draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), title, TEXT, self._bold, anchor="mm")

    def _draw_status(self, draw: ImageDraw.ImageDraw, result: FrameResult) -> None:
        frame, time, *lamps, age, latency = ((x, self._middle(row)) for x, row in self._places)
        draw.text(frame, f"frame {result.index}", TEXT, self._font, anchor="lm")
        if result.time_s is not None:
            draw.text(time, clock_time(result.time_s), TEXT, self._font, anchor="lm")
        lit = {"KEY": result.key, "S_h LANDED": result.landed is not None, "DEGRADED": result.degraded}
        for place, (name, colour) in zip(lamps, LAMPS.items(), strict=True):
            self._draw_lamp(draw, *place, name, colour if lit[name] else None)
        draw.text(age, "start-up" if result.startup else f"age {result.age}", TEXT, self._font, anchor="lm")
        self._draw_latency(draw, result.latency_ms, *latency)

    def _middle(self, row: int) -> float:
        return self._pictures[1] + self._row * (row + 0.55)

    def _draw_lamp(self, draw: ImageDraw.ImageDraw, x: float, middle: float, name: str, colour: Colour | None) -> None:
        """Draw a name in a box, filled if `colour` is given."""
        unit = self._unit
        right = x + self._bold.getlength(name) + unit
        box = (x, middle - unit * 0.72, right, middle + unit * 0.72)
        draw.rounded_rectangle(box, unit * 0.4, fill=colour, outline=colour or TROUGH)
        draw.text(((x + right) / 2, middle), name, GROUND if colour else DIM, self._bold, anchor="mm")

    def _draw_latency(self, draw: ImageDraw.ImageDraw, latency_ms: float, left: float, middle: float) -> None:
        unit, right = self._unit, self._pictures[0] - self._unit * 0.8
        draw.text((right, middle), f"{latency_ms:.0f} ms", TEXT, self._font, anchor="rm")
        right -= self._font.getlength("0000 ms") + unit * 0.5
        if self._full_ms is None or right - left < 3 * unit:
            return
        box = (left, middle - unit * 0.5, right, middle + unit * 0.5)
        draw.rectangle(box, fill=TROUGH)
        share = min(latency_ms / self._full_ms, 1.0)
        late = latency_ms > self._full_ms
        end = left + (right - left) * share
        draw.rectangle((left, box[1], end, box[3]), fill=LAMPS["DEGRADED"] if late else BAR)
        # The name is written only where the bar leaves room for it.
        if right - end > self._bold.getlength(self._full_name) + unit:
            draw.text((right - unit * 0.3, middle), self._full_name, TEXT, self._bold, anchor="rm")

    def _draw_legend(self, classes: Sequence[str], palette: Sequence[Colour]) -> Image.Image:
        """Draw the panel below the pictures: empty rows for the status, then the classes."""
        unit, swatch = self._unit, self._unit * 0.9
        places = self._flow([swatch + unit * 0.4 + self._font.getlength(name) for name in classes], 0.9 * unit)
        top = self._row * (self._places[-1][1] + 1)
        height = top + round((places[-1][1] + 1) * unit * 1.55 + unit * 0.5)
        panel = Image.new("RGB", (self._pictures[0], height + height % 2), GROUND)
        draw = ImageDraw.Draw(panel)
        for name, colour, (x, row) in zip(classes, palette, places, strict=True):
            middle = top + (row + 0.62) * unit * 1.55
            draw.rectangle((x, middle - swatch / 2, x + swatch, middle + swatch / 2), fill=colour, outline=DIM)
            draw.text((x + swatch + unit * 0.4, middle), name, TEXT, self._font, anchor="lm")
        return panel

    def _flow(self, widths: Sequence[float], gap: float) -> list[tuple[float, int]]:
        """Return the left end and the row of things so wide, from left to right in as many rows as they need."""
        left, right = self._unit * 0.8, self._pictures[0] - self._unit * 0.4
        places, x, row = [], left, 0
        for width in widths:
            if x + width > right and x > left:
                x, row = left, row + 1
            places.append((x, row))
            x += width + gap
        return places


def _fitted(picture: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Scale a picture into ``(width, height)`` with its shape kept, smoothly for frames, with nearest neighbours and
    void around them for labels ("L")."""
    height, width = picture.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = tuple(max(1, round(side * scale)) for side in (width, height))
    kind = Image.Resampling.BILINEAR if mode == "RGB" else Image.Resampling.NEAREST
    canvas = Image.new(mode, size, 0 if mode == "RGB" else 255)
    place = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    canvas.paste(Image.fromarray(picture).resize(inner, kind), place)
    return np.asarray(canvas)
