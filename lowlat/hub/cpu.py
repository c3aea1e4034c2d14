"""A hub's videos on a CPU. All stages run on the hub's thread, and S_h of several frames may run as one batch."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

import torch

from lowlat.hub.passes import Parts, Pass
from lowlat.hub.port import Port, Started
from lowlat.hub.seat import Seat
from lowlat.runtime.engine import Engine
from lowlat.runtime.protocols import Clock
from lowlat.runtime.stages import High, Low, NetworkStages
from lowlat.schedule import Schedule


def cpu_video(seat: Seat, schedule: Schedule, stages: NetworkStages, clock: Clock) -> tuple[Engine, Started]:
    """Make the engine of one video, and its stages."""
    started = Started(stages)
    engine = Engine(schedule, started, Port(seat), clock)
    engine.classes = stages.network.legend
    return engine, started


class CpuMachine:
    """Runs S_h on the calling thread, where each part is complete when it returns.

    Args:
        stages: the network's stages.
    """

    def __init__(self, stages: NetworkStages) -> None:
        self._stages = stages

    def ready(self, passes: Sequence[Pass]) -> bool:
        return True

    def keep(self, sizes: Collection[Hashable]) -> None: ...

    def idle(self) -> bool:
        return True

    def close(self) -> None: ...

    def parts(self, passes: Sequence[Pass]) -> Parts:
        lows = [one.low for one in passes]
        if len(lows) == 1:
            return _single(self._stages, lows[0])
        return _several(self._stages, lows)


def _single(stages: NetworkStages, low: Low) -> Parts:
    high = yield from stages.higher_parts(low)
    return [high]


@torch.inference_mode()
def _several(stages: NetworkStages, lows: Sequence[Low]) -> Parts:
    """Run S_h on frames of one size as one batch; each link of its chain is a part."""
    for low in lows:
        if stages.fast_track:
            low.anchor(stages.network)
    crossing = _side_by_side([low.crossing for low in lows])
    features = crossing
    for run in stages.network.higher_chain():
        yield
        features = run(features, crossing)
    # These are copies, because a view would keep the features of the whole batch in memory.
    highs = [High(features[n : n + 1].clone(), low.size) for n, low in enumerate(lows)]
    carried = []
    for low, high in zip(lows, highs, strict=True):
        carried.append((yield from stages.carry(low, high)))
    return carried


def _side_by_side(values: Sequence[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return torch.cat(tuple(values))
    return tuple(torch.cat(parts) for parts in zip(*values, strict=True))
