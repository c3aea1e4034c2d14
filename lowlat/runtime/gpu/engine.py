"""`gpu_engine` puts the engine of one video on a GPU together."""

from __future__ import annotations

import warnings

from lowlat.runtime.engine import Engine
from lowlat.runtime.gpu.cuda import CudaDevice, partition
from lowlat.runtime.gpu.isolation import ISOLATIONS, SEGMENTS, InTurns, Turns
from lowlat.runtime.gpu.programs import NetworkPrograms
from lowlat.runtime.gpu.stages import GpuStages
from lowlat.runtime.gpu.worker import GpuWorker
from lowlat.schedule import Schedule

DEFAULT_SMS = 32
"""Multiprocessors for S_h under `partition`, about its share of the GPU's time over the key frame interval."""


def gpu_engine(
    schedule: Schedule,
    programs: NetworkPrograms,
    *,
    isolation: str | None = None,
    segments: int = SEGMENTS,
    sms: int = DEFAULT_SMS,
    timed: bool = True,
) -> Engine:
    """Make an engine for one video on the GPU of `programs`, which several engines may share.

    Args:
        schedule: says what to do with each frame.
        programs: the network's stages on the GPU.
        isolation, segments, sms: as in `VideoSegmenter`. If torch or the driver can't do "partition", a RuntimeWarning
            says so and "priority" takes its place.
        timed: whether stages are timed on the GPU.

    Raises:
        ValueError: an unknown isolation.
    """
    isolation, notice = "priority" if isolation is None else isolation, ""
    if isolation not in ISOLATIONS:
        words = ", ".join(ISOLATIONS)
        raise ValueError(f"VideoSegmenter: expected isolation to be one of {words}, got {isolation!r}; choose one")
    device = CudaDevice(programs.device)
    if isolation == "partition":
        try:
            device.low, granted = partition(sms, device.device)
            if granted != sms:
                notice = f"gpu_engine: multiprocessors for S_h: asked for {sms}, granted {granted or 'unknown'}"
        except RuntimeError as error:
            notice = f"gpu_engine: isolation 'partition' can't be had, 'priority' takes its place: {error}"
            warnings.warn(notice, RuntimeWarning, stacklevel=2)
            isolation = "priority"
    turns = InTurns(device, segments) if isolation == "segment" else Turns()
    stages = GpuStages(device, programs, schedule, graphs=programs.options.graphs, turns=turns, timed=timed)
    worker = GpuWorker(stages, device)
    engine = Engine(schedule, stages, worker, clock=device)
    engine.end_with_the_program()
    engine.isolation, engine.notice = isolation, notice
    return engine
