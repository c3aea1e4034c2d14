"""S_h of frames of several videos as one batch on a GPU: its memory, the copies into it and out of it, and its
parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lowlat.runtime.gpu.device import Buffer, Device, Stream, Work
from lowlat.runtime.gpu.pieces import Launcher, Piece

if TYPE_CHECKING:
    from lowlat.hub.shared import Asked
    from lowlat.runtime.gpu.programs import NetworkPrograms


class Features(NamedTuple):
    """F_l of several frames ``(B, C_l, h, w)``, or a tuple of F_l and what else S_h reads."""

    features: Any


class Rows:
    """Copies between the memory of one frame and that of several frames, side by side in the first dimension."""

    @staticmethod
    def low(source: Any, count: int) -> Features:
        """Makes memory for ``count`` times the F_l in ``source``."""
        return Features(Rows.several(source.features, count))

    @staticmethod
    @torch.inference_mode()
    def several(value: Any, count: int) -> Any:
        """Makes memory for ``count`` times a tensor, or a tuple of tensors, in its type and layout and on its
        device."""
        made = tuple(torch.cat([tensor] * count) for tensor in _tensors(value))
        return made if len(made) > 1 else made[0]

    @staticmethod
    def gather(row: int) -> Work:
        """Returns `work(source, low)`, which copies one frame's F_l into its row."""

        @torch.inference_mode()
        def work(source: Any, low: Features) -> None:
            for one, all_rows in zip(_tensors(source.features), _tensors(low.features), strict=True):
                all_rows[row : row + 1].copy_(one)

        return work

    @staticmethod
    def scatter(row: int) -> Work:
        """Returns `work(high of several, high)`, which copies F_h of one frame out of its row."""

        @torch.inference_mode()
        def work(several: torch.Tensor, high: torch.Tensor) -> None:
            high.copy_(several[row : row + 1])

        return work


class Together:
    """S_h of ``count`` frames of one size as one batch: its memory and, if they are wanted, its graphs.

    It may be made on any thread while other work goes on, and is used on the hub's.

    Args:
        device: makes the buffers.
        stream: the stream of S_h.
        programs: the network's stages on the device.
        rows: makes the copies between one frame and several.
        like: a pass on one frame of that size, whose memory is taken as the pattern.
        count: how many frames.
        segments: how many parts S_h has.

    Raises:
        MemoryError: there is no room for it on the device.
    """

    def __init__(
        self,
        device: Device,
        stream: Stream,
        programs: NetworkPrograms,
        rows: Rows,
        like: Asked,
        count: int,
        segments: int,
    ) -> None:
        self._stream, self._rows = stream, rows
        # Parts that share their scratch for one frame can share it for several too.
        made: dict[Buffer, Buffer] = {}

        def several(one: Buffer) -> Buffer:
            if one not in made:
                name = f"{count} x scratch{len(made)}"
                made[one] = device.buffer(name, lambda: rows.several(one.value, count))
            return made[one]

        self._low = device.buffer(f"{count} x low", lambda: rows.low(like.source.value, count))
        between = [several(one) for one in like.scratch]
        self._high = device.buffer(f"{count} x high", lambda: rows.several(like.side.high.value, count))
        # New memory is filled on torch's own stream, which no stream here waits for.
        device.synchronize()
        reads = [(self._low,), *((self._low, before) for before in between)]
        self._pieces = [
            Piece(stream, ("higher of several", count, part), work, reads[part], (after,))
            for part, (work, after) in enumerate(zip(programs.higher(segments), (*between, self._high), strict=True))
        ]
        self._launcher = Launcher(device, graphs=programs.options.graphs, timed=False)
        self._launcher.warm_up(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def launch(self, part: int) -> None:
        """Enqueues a part of S_h."""
        self._launcher.launch(self._pieces[part])

    def gather(self, sources: Sequence[Buffer]) -> None:
        """Enqueues the copies of each frame's F_l, which come before the first part."""
        for row, source in enumerate(sources):
            self._stream.run(self._rows.gather(row), (source,), (self._low,))

    def scatter(self, row: int, high: Buffer) -> None:
        """Enqueues the copy of one frame's F_h, which comes after the last part."""
        self._stream.run(self._rows.scatter(row), (self._high,), (high,))


def _tensors(value: Any) -> tuple[torch.Tensor, ...]:
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)
