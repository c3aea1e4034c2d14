"""`Caches`: the static memory of one video on a device, for frames under way and for the key frame, and its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lowlat.runtime.gpu.device import Buffer, Device, Event, Size

if TYPE_CHECKING:
    from lowlat.runtime.gpu.programs import NetworkPrograms

HOST = frozenset({"frame", "labels_out", "scores_out", "value_out"})


@dataclass(eq=False)
class Slot:
    """The buffers and events of one frame under way. Frames take the two slots in turn."""

    number: int
    frame: Buffer  # pinned memory of the host
    image: Buffer
    low: Buffer
    labels: Buffer
    labels_out: Buffer  # pinned memory of the host
    scores: Buffer
    scores_out: Buffer  # pinned memory of the host
    value: Buffer
    value_out: Buffer  # pinned memory of the host
    uploaded: Event
    lowered: Event
    labelled: Event
    fetched: Event
    decided: Event
    free: Event
    """Recorded after the last reader of `low`."""
    serial: int = -1
    """The serial number, from 0, of the frame whose work the slot holds."""
    asked: str = ""
    """The size at which the frame's scores are wanted: "grid", "frame", or empty for its labels alone."""


@dataclass(eq=False)
class Side:
    """One of two places for F_h: propagation reads one while S_h writes the other."""

    number: int
    high: Buffer
    read: Event
    """Recorded after the last use of `high` by propagation."""


class Caches:
    """Makes all static buffers and events of one video with frames of `size`. S_h has `segments` parts, and its F_h may
    be carried `steps` steps before it lands. Raises MemoryError if the buffers don't fit into the device."""

    def __init__(self, device: Device, programs: NetworkPrograms, size: Size, segments: int, steps: int) -> None:
        self.size = size
        makers = programs.makers(size)

        def buffer(kind: str, number: int | str = "") -> Buffer:
            return device.buffer(f"{kind}{number}", makers[kind], host=kind in HOST)

        buffers = ("frame", "image", "low", "labels", "labels_out", "scores", "scores_out", "value", "value_out")
        events = ("uploaded", "lowered", "labelled", "fetched", "decided", "free")
        self.slots = [
            Slot(n, *(buffer(kind, n) for kind in buffers), *(device.event(f"{kind}{n}") for kind in events))
            for n in range(2)
        ]
        self.sides = [Side(n, buffer("high", n), device.event(f"read{n}")) for n in range(2)]
        self.kept, self.base = buffer("kept"), buffer("base")
        # A place for the key frame, then one for each base that comes while S_h is under way.
        self.path = [buffer("place", n) for n in range(steps + 1)]
        self.propagated = buffer("propagated")
        between = programs.scratch(size, segments)
        made = {key: device.buffer(f"scratch{n}", make) for n, (key, make) in enumerate(dict(between).items())}
        self.scratch = [made[key] for key, _ in between]
        self.held = device.event("held")
        self.landed = device.event("landed")
