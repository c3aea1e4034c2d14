"""`stream_engine`: the live engine of one video on a GPU, put together from a network, a schedule and a policy."""

from __future__ import annotations

import warnings

from lowlat.runtime.cuda import CudaDevice, partition
from lowlat.runtime.engine import Engine
from lowlat.runtime.policies import SEGMENTS, AtOnce, Interference, InTurns, interference
from lowlat.runtime.programs import NetworkPrograms
from lowlat.runtime.stream_worker import StreamWorker
from lowlat.runtime.streams import StreamStages
from lowlat.schedule import Schedule

DEFAULT_SMS = 32
"""Multiprocessors for S_h under `partition`: about its share of the GPU's time over the key frame interval."""


class StreamEngine(Engine):
    """An `Engine` on a device.

    Attributes:
        interference: the policy that is in force.
        notice: why it is not the one asked for; empty if it is.
    """

    interference: Interference
    notice: str


def stream_engine(
    schedule: Schedule,
    programs: NetworkPrograms,
    *,
    policy: str = "priority",
    segments: int = SEGMENTS,
    sms: int = DEFAULT_SMS,
    timed: bool = True,
) -> StreamEngine:
    """An engine for one video on the GPU of `programs`, which may be shared by several engines.

    Args:
        schedule: what to do when.
        programs: the network on its device.
        policy: "priority", "partition" or "segment": see `lowlat.runtime.policies`. Where torch or the driver lacks
            what `partition` takes, it is `priority` with a RuntimeWarning.
        segments: parts of S_h under `segment`.
        sms: multiprocessors for S_h under `partition`.
        timed: time the stages on the device.

    Raises:
        ValueError: no such policy.
        RuntimeError: no GPU.
    """
    wanted, notice = interference(policy), ""
    device = CudaDevice(programs.device)
    if wanted is Interference.PARTITION:
        try:
            device.low = partition(sms, device.device)
        except RuntimeError as error:
            notice = f"stream_engine: policy 'partition' can't be had, 'priority' takes its place: {error}"
            warnings.warn(notice, RuntimeWarning, stacklevel=2)
            wanted = Interference.PRIORITY
    pacer = InTurns(device, segments) if wanted is Interference.SEGMENT else AtOnce()
    stages = StreamStages(device, programs, schedule, graphs=programs.options.graphs, pacer=pacer, timed=timed)
    engine = StreamEngine(schedule, stages, StreamWorker(stages, device), clock=device)
    engine.interference, engine.notice = wanted, notice
    return engine
