"""The static memory of one stream on a device: two slots for frames under way, the key frame's caches, their events."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lowlat.runtime.gpu.device import Buffer, Device, Event, Work
from lowlat.schedule import Signal

Size = tuple[int, int]
"""Height and width of a frame, in pixels."""


class Programs(Protocol):
    """A network's stages on given memory: each reads its first arguments and writes its last. No state of a stream.

    F_l with its reductions is `low`; what is kept of a key frame's F_l is `kept`; F_h is `high`.
    """

    def size_of(self, frame: Any) -> Size:
        """The frame's size; ValueError if it is no frame."""

    def makers(self, size: Size) -> Mapping[str, Callable[[], Any]]:
        """What makes the memory of each buffer of `Slot` and `Caches`, by name."""

    def load(self, frame: Any) -> Work:
        """-> `work(frame buffer)`: the frame into pinned memory, on the host."""

    def lower(self, image: Any, low: Any) -> None:
        """S_l and the reductions."""

    def higher(self, segments: int) -> list[Work]:
        """S_h in so many parts or fewer, in order, each `work(source, *before, after)`. All read `kept` or `low`, all
        but the first what the part before has left in the scratch; the last writes `high`."""

    def scratch(self, size: Size, segments: int) -> list[tuple[Hashable, Callable[[], Any]]]:
        """What makes the memory between those parts, in order. Where the keys are equal it may be the same memory,
        never so for neighbours."""

    def hold(self, low: Any, kept: Any) -> None:
        """F_l and the key frame's half of the fast track."""

    def rebase(self, low: Any, kept: Any) -> None:
        """Of `hold` only what propagation needs: the decision's part stays the key frame's."""

    def keep(self, propagated: Any, high: Any) -> None:
        """The F_h of a temporary key frame."""

    def propagate(self, kept: Any, high: Any, low: Any, propagated: Any, labels: Any) -> None:
        """Eq. 1, AdaptNet, fusion, labels."""

    def classify(self, high: Any, labels: Any) -> None:
        """Labels from F_h alone."""

    def select(self, signal: Signal) -> Work:
        """-> `work(kept, low, value)`: the key frame decision's value."""

    def labels(self, labels_out: Any) -> Any:
        """Labels from pinned memory, in memory of their own."""

    def number(self, value_out: Any) -> float:
        """The value from pinned memory."""


HOST = frozenset({"frame", "labels_out", "value_out"})


@dataclass(eq=False)
class Slot:
    """What belongs to one frame under way. Frames take the two slots in turn."""

    number: int
    frame: Buffer  # pinned
    image: Buffer
    low: Buffer
    labels: Buffer
    labels_out: Buffer  # pinned
    value: Buffer
    value_out: Buffer  # pinned
    uploaded: Event
    lowered: Event
    labelled: Event
    fetched: Event
    decided: Event
    free: Event
    """Behind the last reader of `low`."""
    serial: int = -1
    """The frame whose work it holds, counted from 0."""


@dataclass(eq=False)
class Side:
    """One of two places for F_h: propagation reads one while S_h writes the other."""

    number: int
    high: Buffer
    read: Event
    """Behind the last use of `high` by propagation."""


class Caches:
    """All static buffers and events of one stream.

    Args:
        device: makes them.
        programs: the network.
        size: of the frames.
        segments: parts of S_h.

    Raises:
        RuntimeError: they don't fit into the device's memory.
    """

    def __init__(self, device: Device, programs: Programs, size: Size, segments: int) -> None:
        self.size = size
        makers = programs.makers(size)

        def buffer(kind: str, number: int | str = "") -> Buffer:
            return device.buffer(f"{kind}{number}", makers[kind], host=kind in HOST)

        buffers = ("frame", "image", "low", "labels", "labels_out", "value", "value_out")
        events = ("uploaded", "lowered", "labelled", "fetched", "decided", "free")
        try:
            self.slots = [
                Slot(n, *(buffer(kind, n) for kind in buffers), *(device.event(f"{kind}{n}") for kind in events))
                for n in range(2)
            ]
            self.sides = [Side(n, buffer("high", n), device.event(f"read{n}")) for n in range(2)]
            self.kept = buffer("kept")
            self.propagated = buffer("propagated")
            self.scratch = self._scratch(device, programs.scratch(size, segments))
        except MemoryError as error:
            raise out_of_memory("Caches", size, error) from error
        self.held = device.event("held")
        self.landed = device.event("landed")

    @staticmethod
    def _scratch(device: Device, between: Sequence[tuple[Hashable, Callable[[], Any]]]) -> list[Buffer]:
        made: dict[Hashable, Buffer] = {}
        for key, make in between:
            if key not in made:
                made[key] = device.buffer(f"scratch{len(made)}", make)
        return [made[key] for key, _ in between]


def out_of_memory(who: str, size: Size, error: BaseException) -> RuntimeError:
    """What to lower when the memory of a stream doesn't fit."""
    height, width = size
    return RuntimeError(
        f"{who}: expected room on the device for a stream of {width}x{height} frames, got: {error}; lower the frame "
        "size, take dtype='bfloat16', switch graphs off, or run fewer streams"
    )
