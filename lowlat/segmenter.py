"""`VideoSegmenter` labels the frames of one video as they come, on a CPU or a GPU. Programs begin here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lowlat import models
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import FrameResult
from lowlat.runtime.cpu.engine import cpu_engine
from lowlat.runtime.cpu.threads import CoreSplit
from lowlat.runtime.gpu.engine import gpu_engine
from lowlat.runtime.gpu.programs import NetworkPrograms
from lowlat.runtime.options import Options, PreparedNetwork, find_device
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import DEFAULT_AGE_BOUND, Adaptive, Counts, Mode, Policy, Schedule


def prepare(
    network: VideoNetwork | str | Path = "lite",
    *,
    device: str | torch.device = "cpu",
    pixels: int | str | None = "default",
    **options: Any,
) -> PreparedNetwork:
    """Load a network and make it ready to run on a device, once for any number of `VideoSegmenter`.

    Args:
        network: the name of a shipped network, a file of weights, or a network.
        device: "cpu", "cuda" or "cuda:1", or a `torch.device`.
        pixels: frames are resized to about this many pixels for the network: "default" is what the weights say, None
            leaves frames as they are.
        options: fields of `lowlat.runtime.options.Options`, such as ``dtype="bfloat16"`` or ``graphs=False``.

    Raises:
        ValueError: there is no such network, device or dtype.
        TypeError: there is no such option.
        RuntimeError: there is no such GPU.
    """
    found = find_device("prepare", device)
    chosen = Options(**options)
    if found.type == "cpu" and chosen.compiled:
        raise ValueError("prepare: expected compiled=True with a GPU, got it with device='cpu'; leave it out")
    network = network if isinstance(network, VideoNetwork) else models.load(network)
    kind = NetworkStages if found.type == "cpu" else NetworkPrograms
    return kind(network, chosen, pixels=pixels, device=found)


class VideoSegmenter(AbstractContextManager):
    """Segments one video. Make one for each video, on the thread that uses and closes it.

        with VideoSegmenter("lite", device="cuda") as segmenter:
            for frame in camera:  # uint8 RGB (H, W, 3)
                result = segmenter.step(frame)
                show(result.labels, result.latency_ms)

    Labels come from the fast track; S_h follows in the background, on a CPU in parts between frames, on a GPU on a CUDA
    stream of its own. Only the first frame, and the first one after :meth:`restart`, waits for a pass of S_h. How much
    of S_h any other frame may still have to wait for is bounded by the `isolation`. To run the whole network on every
    frame, make a ``VideoSegmenter(policy=PerFrame(), mode="blocking")``.

    Args:
        network: the name of a shipped network, a file of weights, a network, or what :func:`prepare` made, which
            several segmenters may share: one copy of the weights for all videos. `device`, `dtype`, `pixels`, `graphs`
            and `compiled` are then given to `prepare`, and not here.
        device: "cpu", the default, "cuda" or "cuda:1", or a `torch.device`. Frames go to a GPU as they are, uint8;
            resizing and normalisation happen there.
        dtype: the type of weights and features: "float32", the default, "bfloat16" or "float16".
        policy: when a frame becomes a key frame; by default adaptive, at the threshold the weights come with.
        mode: "low-latency" runs S_h in the background, "blocking" on the critical path.
        decision: whether a key frame is decided after the labels ("deferred", the default in low-latency mode) or
            before them ("critical", the only one in blocking mode).
        age_bound: frames after which S_h is launched whatever the policy says; None for no bound.
        on_cut: how a frame behind a scene cut is labelled: on time and marked degraded ("degrade"), or late and right
            ("block", which takes ``decision="critical"``).
        pixels: frames are resized to about this many pixels for the network: "default" is what the weights say (480 x
            360 for `lite`), None leaves frames as they are. Labels come at the frame's own size.
        isolation: what keeps S_h out of a frame's way. On a CPU "segment", the default, runs parts of S_h between
            frames, which must leave time for it, as a camera's do; "priority" runs S_h beside the frames on half the
            cores, for frames that come without a pause. On a GPU "priority", the default, gives S_h a CUDA stream of
            low priority; "partition" gives it multiprocessors of its own; "segment" launches one part at a time.
        cores: threads on a CPU, by default one for each core at hand; or a `CoreSplit`, for "priority".
        segments: how many parts S_h has under "segment" on a GPU.
        sms: multiprocessors for S_h under "partition"; the driver rounds the number.
        graphs: whether each stage is captured as a CUDA graph; on a GPU it is by default.
        compiled: whether each stage is compiled by `torch.compile`, on a GPU.

    Attributes:
        classes: the labels' names and colours; ``len(classes)`` is how many classes there are.
        device: the `torch.device` it runs on.
        clock: the clock of every time in the results, for stamping frames at capture.
        isolation: the isolation in force. `notice` says why it is not the one asked for; empty if it is.

    Raises:
        ValueError: an unknown word, options that contradict each other, or no such network.
        RuntimeError: there is no such GPU.
    """

    def __init__(
        self,
        network: VideoNetwork | PreparedNetwork | str | Path = "lite",
        *,
        device: str | torch.device | None = None,
        dtype: str | None = None,
        policy: Policy | None = None,
        mode: str = "low-latency",
        decision: str | None = None,
        age_bound: int | None = DEFAULT_AGE_BOUND,
        on_cut: str = "degrade",
        pixels: int | str | None = "default",
        isolation: str | None = None,
        cores: CoreSplit | int | None = None,
        segments: int | None = None,
        sms: int | None = None,
        graphs: bool | None = None,
        compiled: bool | None = None,
    ) -> None:
        options = _given(device=device, dtype=dtype, graphs=graphs, compiled=compiled)
        if device is not None:
            options["device"] = find_device("VideoSegmenter", device)
        options |= {} if pixels == "default" else {"pixels": pixels}
        made = isinstance(network, PreparedNetwork)
        if made and options:
            raise ValueError(
                f"VideoSegmenter: expected no {' or '.join(options)} beside a prepared network, which has its own; "
                "give them to prepare()"
            )
        prepared = network if made else prepare(network, **options)
        policy = Adaptive(prepared.network.threshold) if policy is None else policy
        if decision is None:
            decision = "critical" if mode == Mode.BLOCKING or on_cut == "block" else "deferred"
        schedule = Schedule(policy, mode, decision, age_bound, on_cut)
        if not schedule.needs_fast_track:
            # Such a run never reads the reductions of F_l.
            prepared = prepared.without_fast_track()
        on_cpu = prepared.device.type == "cpu"
        elsewhere = _given(segments=segments, sms=sms, graphs=graphs) if on_cpu else _given(cores=cores)
        if elsewhere:
            place, other = ("a CPU", "a GPU's") if on_cpu else ("a GPU", "a CPU's")
            raise ValueError(
                f"VideoSegmenter: expected no {' or '.join(elsewhere)} on {place}, which is {other}; leave it out"
            )
        for word, option, value in (("segment", "segments", segments), ("partition", "sms", sms)):
            if value is not None and isolation != word:
                raise ValueError(
                    f"VideoSegmenter: expected {option} with isolation={word!r} alone, got {isolation!r}; leave it out"
                )
        self.device, self.classes = prepared.device, prepared.network.legend
        if on_cpu:
            self._engine = cpu_engine(schedule, prepared, isolation=isolation, cores=cores)
        else:
            self._engine = gpu_engine(schedule, prepared, isolation=isolation, **_given(segments=segments, sms=sms))
        self._engine.classes = self.classes
        self.isolation, self.notice, self.clock = self._engine.isolation, self._engine.notice, self._engine.clock
        self._process, self._in_use = os.getpid(), threading.RLock()

    def step(self, frame: np.ndarray, *, scores: bool | str = False) -> FrameResult:
        """Label one frame, uint8 RGB ``(H, W, 3)``; ``result.labels`` is uint8 ``(H, W)``.

        Args:
            scores: whether the result has ``scores`` too, float32 ``(classes, h, w)``, and with them ``probabilities``
                and ``confidence``: True or "grid" gives them on the network's grid, a few pixels apart, "frame" at the
                frame's size. They cost a copy, at the frame's size a large one.

        Raises:
            ValueError: another kind of array, a frame of another size than the key frame's, or an unknown word.
            RuntimeError: S_h failed on the first frame, a GPU lacks the memory, or the segmenter is closed, in use by
                another thread, or inherited by a forked process.
        """
        asked = _scores_at("step", scores)
        return self._alone("step", partial(self._engine.step, frame, scores=asked))

    def run(self, frames: Iterable, *, scores: bool | str = False) -> Iterator[FrameResult]:
        """Label frames as they come. Each result is yielded before the work that may follow its labels.

        Args:
            frames: yields frames; a source's timed frames keep their index and time. It may be a `FrameBuffer`.
            scores: as in :meth:`step`, for every frame.

        Raises:
            ValueError, RuntimeError: as :meth:`step`. What ``frames`` itself raises comes through.
        """
        results = self._engine.run(frames, _scores_at("run", scores))
        return iter(lambda: self._alone("run", next, results, None), None)

    @property
    def counts(self) -> Counts:
        """How many frames, key frames, launches, landings, failures and so on there have been so far."""
        return self._engine.state.counts

    def restart(self) -> None:
        """Forget the key frame: the next frame starts up again, and may have another size."""
        self._alone("restart", self._engine.restart)

    def close(self) -> None:
        """End the threads and give back the streams, as happens when the program ends. May be called again."""
        if os.getpid() == self._process:
            self._engine.close()

    def _alone(self, method: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call ``function`` for `method`; RuntimeError if another thread is in here, or in a fork."""
        if os.getpid() != self._process:
            why = "the process that made the segmenter, got a fork of it without its threads; make one in the child"
        elif not self._in_use.acquire(blocking=False):
            why = "one thread at a time, got two at once; make a VideoSegmenter for each thread, or hold a lock"
        else:
            try:
                return function(*arguments)
            finally:
                self._in_use.release()
        raise RuntimeError(f"VideoSegmenter.{method}: expected {why}")

    def __exit__(self, *_: object) -> None:
        self.close()


def _scores_at(method: str, scores: bool | str) -> str:
    """Return the size at which scores are wanted: "grid", "frame", or the empty word for none."""
    if isinstance(scores, bool) or scores is None:
        return "grid" if scores else ""
    if not isinstance(scores, str) or scores not in ("grid", "frame"):
        raise ValueError(
            f"VideoSegmenter.{method}: expected scores to be True, 'grid' or 'frame', got {scores!r}; leave it out for "
            "labels alone"
        )
    return scores


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}
