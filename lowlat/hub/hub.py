"""`Hub`: several videos on one CPU or one GPU, each of whose latency is bounded whatever the others do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lowlat.hub.beside import Threads
from lowlat.hub.capacity import Load, admitted, bound_ms, capacity, spacing
from lowlat.hub.checks import checked_fps, checked_size, is_whole
from lowlat.hub.costs import Costs
from lowlat.hub.cpu import CpuMachine, cpu_video
from lowlat.hub.gpu import gpu_video
from lowlat.hub.gpu_machine import GpuMachine
from lowlat.hub.loop import Loop
from lowlat.hub.passes import Passes
from lowlat.hub.policy import spaced
from lowlat.hub.runner import Closed, Runner
from lowlat.hub.seat import Seat, StartStages
from lowlat.hub.turns import PartRule
from lowlat.hub.video import Video, reader
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Captured, Engine, FrameResult, WallClock
from lowlat.runtime.cpu import threads
from lowlat.runtime.ending import end_with
from lowlat.runtime.options import PreparedNetwork
from lowlat.schedule import DEFAULT_AGE_BOUND, Adaptive, Every, Policy, Schedule
from lowlat.segmenter import prepare

DEFAULT_SIZE = (360, 480)
"""The height and width of frames for which costs are measured if no size is given."""
REHEARSED = 12
"""How many frames the first costs are measured on."""


class Hub(AbstractContextManager):
    """Segments several videos with one network on one device.

        with lowlat.Hub("lite") as hub:
            gate = hub.open("gate", fps=10)
            gate.submit(frame)  # from any thread; never waits
            for result in gate:
                show(result.labels)

    One thread computes everything, one thing at a time: the frames of all videos, and between them parts of S_h. A
    frame waits at most for one frame of every other video and one part of S_h. The passes of S_h of all videos share
    one queue, in which the video with the oldest features comes first.

    Args:
        network: the name of a shipped network, a file of weights, a network, or what :func:`lowlat.prepare` made, to
            which `device`, `dtype`, `pixels` and the like have been given then.
        device: "cpu", the default, "cuda" or "cuda:1".
        cores: threads on a CPU, by default one for each core at hand.
        batch: the most passes of S_h, on frames of one size, that run as one. A batch runs only if no part of it takes
            much longer than a part of a single pass. The default of 1 means no batches.
        options: further arguments of :func:`lowlat.prepare`.

    Attributes:
        device, classes: those of the network.
        clock: the hub's clock. A video's results have the video's clock.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`lowlat.prepare`, and for wrong `cores` or `batch`.
    """

    def __init__(
        self,
        network: VideoNetwork | PreparedNetwork | str | Path = "lite",
        *,
        device: str | torch.device | None = None,
        cores: int | None = None,
        batch: int = 1,
        **options: Any,
    ) -> None:
        if not is_whole(batch):
            raise ValueError(f"Hub: expected a batch of at least 1 pass, got {batch!r}; leave it out for no batches")
        if device is not None:
            options["device"] = device
        made = isinstance(network, PreparedNetwork)
        if made and options:
            raise ValueError(
                f"Hub: expected no {' or '.join(options)} beside a prepared network, which has its own; give them to "
                "prepare()"
            )
        self._prepared = prepared = network if made else prepare(network, **options)
        self.device, self.classes = prepared.device, prepared.network.legend
        self._on_gpu = self.device.type != "cpu"
        if cores is not None:
            if self._on_gpu:
                raise ValueError("Hub: expected no cores on a GPU, which is a CPU's; leave it out")
            threads.check_cores("Hub", cores, "leave it out to use those at hand", os.cpu_count() or 1)
        self.clock = WallClock()
        self._costs, rule, self._beside = Costs(), PartRule(), Threads()
        self._machine = GpuMachine(prepared, self._beside) if self._on_gpu else CpuMachine(prepared)
        self._passes = Passes(self._machine, self.clock, self._costs, rule, batch)
        self._loop = Loop(self.clock, self._passes, self._costs, rule)
        count = threads.cores_at_hand() if cores is None else cores
        if not self._on_gpu:
            threads.let_go_of_threads()
        self._runner = Runner(self._loop, (lambda: None) if self._on_gpu else lambda: threads.set_own_threads(count))
        self._beside.wake = self._runner.wake
        end_with(self, self._runner.close)
        self._open: dict[str, Video] = {}
        self._lock = threading.RLock()
        self._spacing = 1

    @property
    def videos(self) -> dict[str, Video]:
        """The videos that are open, by name."""
        with self._lock:
            return dict(self._open)

    @property
    def spacing(self) -> int:
        """How many frames apart the key frames of each video are at least; more than 1 only after ``over="lower"``."""
        return self._spacing

    @property
    def bound_ms(self) -> float:
        """The most ms that a frame takes to its labels, by the costs measured so far: a frame of every video and the
        longest part of S_h. A batch that is tried for the first time may exceed it."""
        with self._lock:
            return bound_ms(self._loads())

    def open(
        self,
        name: str,
        *,
        fps: float,
        size: tuple[int, int] | None = None,
        policy: Policy | None = None,
        age_bound: int = DEFAULT_AGE_BOUND,
        over: str = "refuse",
        hold: int = 1,
        settled: bool = False,
        scores: bool = False,
        on_result: Callable[[FrameResult], None] | None = None,
    ) -> Video:
        """Take in another video.

        Args:
            name: a name that no open video has.
            fps: how many frames a second will come. Of a faster source some frames are dropped.
            size: ``(height, width)`` of the video's frames, by which their cost is estimated; 360 by 480 if it is not
                given. On a GPU memory and graphs for this size are made here, or with the first frame if it is not
                given, while the other videos go on. Frames of any size may come.
            policy: decides which frames are key frames; by default adaptive, at the threshold the weights come with.
            age_bound: frames after which S_h is asked for whatever the policy says.
            over: what to do if there is no room for the video (:meth:`capacity` is 0): "refuse" raises RuntimeError,
                "lower" spaces the key frames of all videos as far apart as need be, with a RuntimeWarning.
            hold: how many results are held for readers; 1 holds the newest only.
            settled: whether results are handed out after the work that follows their labels, so that `key`, `launched`
                and `value` are final, or as soon as there are labels.
            scores: whether results have scores too, float32 ``(classes, h, w)`` at the network's own grid. At a frame's
                own size they would take more time than the bound counts.
            on_result: a function that a thread of the video calls with each result, or with the newest if it doesn't
                keep up.

        Raises:
            ValueError: a name that is taken, or an impossible number.
            RuntimeError: no room on the device, or in its memory; or the hub is closed.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"Hub.open: expected a name, got {name!r}; name the video")
        self._runner.check_process()
        if over not in ("refuse", "lower"):
            raise ValueError(f"Hub.open: expected over to be 'refuse' or 'lower', got {over!r}; choose one of them")
        if not is_whole(hold):
            raise ValueError(f"Hub.open: expected to hold at least 1 result, got {hold!r}; leave it out for the newest")
        if not isinstance(scores, bool):
            raise ValueError(
                f"Hub.open: expected scores to be True or False, got {scores!r}; give True for the network's grid"
            )
        known = None if size is None else checked_size("Hub.open", size)
        policy = Adaptive(self._prepared.network.threshold) if policy is None else policy
        schedule = Schedule(policy, "low-latency", "deferred", age_bound)
        with self._lock:
            if name in self._open:
                raise ValueError(f"Hub.open: expected a new name, got {name!r}, which is open; close it, or choose one")
            load = self._load("open", fps, known or DEFAULT_SIZE)
            least = admitted(name, [*self._loads(), load], over)
            seat = self._seat(name, schedule, hold=hold, settled=settled, scores="grid" if scores else "")
            video = Video(self, seat, load.fps, known or DEFAULT_SIZE)
            self._join(seat, claimed=known is not None)
            self._open[name] = video
            self._space(least)
        if known is not None:
            try:
                # The lock is free here, so that other threads can open and close videos.
                seat.prepare(known)
            except BaseException:
                video.close()
                raise
            # Another thread may have submitted a frame already.
            self._runner.wake()
        if on_result is not None:
            reader(video, on_result)
        return video

    def capacity(self, fps: float = 10.0, *, size: tuple[int, int] = DEFAULT_SIZE) -> int:
        """Return how many more videos of that rate and size fit, so that all get their labels before their next frame
        comes, and S_h at least as often as the age bound says. It goes by the costs of frames and passes; if there were
        none yet, a few frames are labelled to measure them.

        Raises:
            ValueError: an impossible rate or size.
            RuntimeError: the hub is closed.
        """
        self._runner.check_process()
        with self._lock:
            return capacity(self._loads(), self._load("capacity", fps, size), DEFAULT_AGE_BOUND)

    def close(self) -> None:
        """End all videos and the thread. The frame under way gets its labels, frames that wait are dropped. May be
        called again."""
        self._runner.close()
        if not self._runner.here:
            return
        with self._lock:
            self._open.clear()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _seat(self, name: str, schedule: Schedule, **options: Any) -> Seat:
        def build(seat: Seat, schedule: Schedule) -> tuple[Engine, StartStages]:
            if self._on_gpu:
                return gpu_video(seat, schedule, self._prepared, self._machine)
            return cpu_video(seat, schedule, self._prepared, self.clock)

        return Seat(name, schedule, self._passes, build, self.clock, self._beside, **options)

    def _join(self, seat: Seat, *, claimed: bool) -> None:
        if claimed:
            seat.claim()
        try:
            self._runner.call(lambda: self._loop.join(seat))
        except BaseException:
            seat.stages.release()
            raise

    def _leave(self, video: Video) -> None:
        if not self._runner.here:
            return
        with self._lock:
            if self._open.get(video.name) is not video:
                return
            del self._open[video.name]
            left = self._give_up(video._seat)
            with suppress(Closed):
                # If labels alone have become too much, key frames stay as far apart as they are.
                self._space(spacing(self._loads(), DEFAULT_AGE_BOUND) or self._spacing)
        if left:
            video._seat.release()

    def _give_up(self, seat: Seat) -> bool:
        """Have a video leave the loop. Return False if the hub is closing, since it then gives up all of them
        itself."""
        try:
            self._runner.call(lambda: self._loop.leave(seat))
        except Closed:
            return False
        return True

    def _space(self, least: int) -> None:
        self._spacing = least

        def put() -> None:
            for video in self._open.values():
                seat = video._seat
                seat.engine.schedule = spaced(seat.schedule, least)

        self._runner.call(put)

    def _loads(self) -> list[Load]:
        return [self._of(video.fps, video._seat.size or (*video.size, 3)) for video in self._open.values()]

    def _load(self, method: str, fps: float, size: tuple[int, int]) -> Load:
        """Return what a video would ask of the device; measure the costs if that has not been done."""
        fps, size = checked_fps(f"Hub.{method}", fps), checked_size(f"Hub.{method}", size)
        if self._costs.fast_ms((*size, 3)) is None:
            self._rehearse(size)
        return self._of(fps, (*size, 3))

    def _of(self, fps: float, size: Any) -> Load:
        costs = self._costs
        return Load(fps, costs.fast_ms(size), costs.pass_ms(size), self._passes.longest_ms(size))

    def _rehearse(self, size: tuple[int, int]) -> None:
        """Label a few frames of noise to measure what frames and parts of S_h cost."""
        seat = self._seat("rehearsal", Schedule(Every(1), "low-latency", "deferred"))
        self._join(seat, claimed=True)
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        try:
            seat.prepare(size)
            for frames in (2, REHEARSED):
                # The first frames are slow for being the first, so their costs are forgotten.
                self._costs.clear()
                self._runner.call(seat.restart)
                for _ in range(frames):
                    index = seat.labelled + seat.failed
                    seat.put(Captured(index, 0.0, noise))
                    self._runner.wake()
                    seat.wait_for(index + 1)
        finally:
            if self._give_up(seat):
                seat.release()
        if seat.failed:
            shown = f"{size[1]}x{size[0]}"
            raise RuntimeError(f"Hub: the network fails on frames of {shown}: {seat.error!r}") from seat.error
