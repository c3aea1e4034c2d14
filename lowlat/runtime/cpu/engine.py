"""`cpu_engine` puts the engine of one video on a CPU together."""

from __future__ import annotations

import os

from lowlat.runtime.cpu.team import Team, TeamStages
from lowlat.runtime.cpu.threads import CoreSplit, ThreadWorker, check_cores, split_cores
from lowlat.runtime.engine import Engine
from lowlat.runtime.protocols import WallClock
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Mode, Schedule

ISOLATIONS = ("segment", "priority")


def cpu_engine(
    schedule: Schedule, stages: NetworkStages, *, isolation: str | None = None, cores: CoreSplit | int | None = None
) -> Engine:
    """Make an engine for one video; make, use and close it on one thread.

    In blocking mode every stage runs on the caller's thread with all cores: S_h never runs beside the fast track.

    Args:
        schedule: says what to do with each frame.
        stages: the network's stages, which several engines may share.
        isolation, cores: as in `VideoSegmenter`, for low-latency mode. "segment", the default, is done by
            `lowlat.runtime.cpu.team`; "priority", the default with a `CoreSplit`, by `lowlat.runtime.cpu.threads`.

    Raises:
        ValueError: an unknown isolation, not a number of cores, or more cores than the machine has.
    """
    split = isinstance(cores, CoreSplit)
    if isolation is None:
        isolation = "priority" if split else "segment"
    if isolation not in ISOLATIONS or (split and isolation != "priority"):
        raise ValueError(
            f"VideoSegmenter: expected isolation {' or '.join(map(repr, ISOLATIONS))} on a CPU, 'priority' with a "
            f"CoreSplit, got {isolation!r}; 'partition' is a GPU's"
        )
    if cores is not None:
        threads = cores.fast + cores.slow if split else cores
        check_cores("VideoSegmenter", threads, "leave it out to use those at hand", os.cpu_count() or 1)
    clock = WallClock()
    if schedule.mode is Mode.BLOCKING:
        worker, isolation = None, ""
    elif isolation == "priority":
        worker = ThreadWorker(stages.higher_parts, clock, cores=cores if split else split_cores(cores))
    else:
        worker = Team(clock, stages.higher_parts, cores)
        stages = TeamStages(stages, worker)
    engine = Engine(schedule, stages, worker, clock)
    engine.end_with_the_program()
    engine.isolation = isolation
    return engine
