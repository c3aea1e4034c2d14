"""`VideoSegmenter`: labels for the frames of one video, as they come. The streaming API for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lowlat import models
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Clock, FrameResult
from lowlat.runtime.cpu.engine import cpu_engine
from lowlat.runtime.cpu.threads import CoreSplit
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import DEFAULT_AGE_BOUND, Adaptive, Counts, Mode, Policy, Schedule

DEFAULT_PIXELS = 480 * 360


class VideoSegmenter:
    """Segments one video on the CPU; one object a video, to be used and closed on the thread that made it.

        with VideoSegmenter("lite") as segmenter:
            for frame in camera:                     # uint8 RGB (H, W, 3)
                result = segmenter.step(frame)
                show(result.labels, result.latency_ms)

    By default no frame waits for S_h: labels come from the fast track, S_h follows in the background. Frame by frame
    with the whole network and all cores is ``VideoSegmenter(policy=PerFrame(), mode="blocking")``.

    Args:
        network: the name of a shipped network, a file of weights, a network, or `NetworkStages`, which several
            segmenters may share: one copy of the weights for all videos (their `pixels` then holds).
        policy: when a frame becomes a key frame; by default adaptive, at the threshold the weights come with.
        mode: ``"low-latency"`` or ``"blocking"``.
        decision: ``"deferred"`` (after the labels) or ``"critical"``; blocking mode takes only the latter, its default.
        age_bound: frames after which S_h is launched whatever the policy says.
        on_cut: ``"degrade"`` or ``"block"`` behind a scene cut (the latter takes ``decision="critical"``).
        pixels: frames are resized to about this many pixels for the network; labels come at the frame's own size.
        cores: how many threads take turns, by default one for each core at hand: S_h runs in parts between frames, for
            which there must be time between them, as a camera leaves it. A `CoreSplit`, as `split_cores()` gives one,
            has S_h run beside the fast track instead: for frames that come without a pause.

    Attributes:
        classes: what the labels are called and how they are drawn; ``len(classes)`` is how many there are.

    Raises:
        ValueError: unknown words, options that contradict each other, no such network.
    """

    def __init__(
        self,
        network: VideoNetwork | NetworkStages | str | Path = "lite",
        *,
        policy: Policy | None = None,
        mode: str = "low-latency",
        decision: str | None = None,
        age_bound: int | None = DEFAULT_AGE_BOUND,
        on_cut: str = "degrade",
        pixels: int | None = DEFAULT_PIXELS,
        cores: CoreSplit | int | None = None,
    ) -> None:
        stages = network if isinstance(network, NetworkStages) else None
        if stages is not None:
            network = stages.network
        elif not isinstance(network, VideoNetwork):
            network = models.load(network)
        if policy is None:
            policy = Adaptive(network.threshold)
        if decision is None:
            decision = "critical" if mode == Mode.BLOCKING or on_cut == "block" else "deferred"
        self.classes = network.legend
        schedule = Schedule(policy, mode, decision, age_bound, on_cut)
        if stages is None:
            # A run in which every frame waits for S_h never reads the reductions of F_l.
            fast_track = not (schedule.mode is Mode.BLOCKING and policy.signal is None and policy.is_key(1, None))
            stages = NetworkStages(network, pixels=pixels, fast_track=fast_track)
        self._engine = cpu_engine(schedule, stages, cores=cores)

    def step(self, frame: np.ndarray) -> FrameResult:
        """Label one frame, uint8 RGB ``(H, W, 3)``; ``result.labels`` is uint8 ``(H, W)``.

        Raises:
            ValueError: not such a frame, or one of another size than its key frame's.
            RuntimeError: S_h failed on the first frame, or the segmenter is closed.
        """
        return self._engine.step(frame)

    def run(self, frames: Iterable) -> Iterator[FrameResult]:
        """Label frames as they come; each result is yielded before the work that may follow its labels.

        Args:
            frames: frames, or a `FrameBuffer`, whose frames carry the time at which they were captured.

        Raises:
            ValueError, RuntimeError: as :meth:`step`, and what ``frames`` itself raises.
        """
        return self._engine.run(frames)

    @property
    def clock(self) -> Clock:
        """The clock of every time in the results, for stamping frames at capture."""
        return self._engine.clock

    @property
    def counts(self) -> Counts:
        """What has happened so far: key frames, launches, landings, failures, ..."""
        return self._engine.state.counts

    def restart(self) -> None:
        """Forget the key frame: the next frame starts up again, at whatever size it has."""
        self._engine.restart()

    def close(self) -> None:
        """End the threads; may be called again."""
        self._engine.close()

    def __enter__(self) -> VideoSegmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
