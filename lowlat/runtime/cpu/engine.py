"""`cpu_engine`: the engine of one video on the CPU, put together from stages and a schedule."""

from __future__ import annotations

from lowlat.runtime.clock import WallClock
from lowlat.runtime.cpu.team import Team, TeamStages, TeamWorker
from lowlat.runtime.cpu.threads import CoreSplit, ThreadWorker
from lowlat.runtime.engine import Engine
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Mode, Schedule


def cpu_engine(schedule: Schedule, stages: NetworkStages, *, cores: CoreSplit | int | None = None) -> Engine:
    """An engine for one video, to be made, used and closed on one thread.

    In blocking mode every stage has all cores on the caller's thread: S_h never runs beside the fast track.

    Args:
        schedule: what to do when.
        stages: the network; may be shared by several engines.
        cores: in low-latency mode. A number, by default that of the cores at hand: S_h runs in parts between frames, on
            the same threads (`lowlat.runtime.cpu.team`). A `CoreSplit`: S_h runs beside the fast track, on threads
            of its own (`lowlat.runtime.cpu.threads`), for frames without time between them.
    """
    clock = WallClock()
    if schedule.mode is Mode.BLOCKING:
        return Engine(schedule, stages, None, clock)
    if isinstance(cores, CoreSplit):
        return Engine(schedule, stages, ThreadWorker(stages.higher, clock, cores=cores), clock)
    team = Team(clock, cores)
    return Engine(schedule, TeamStages(stages, team), TeamWorker(stages.higher_parts, team), clock)
