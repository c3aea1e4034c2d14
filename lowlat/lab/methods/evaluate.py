"""Accuracy of any method of propagation on a labelled video: by distance from the key frame, and under a schedule.

Under a schedule the engine runs, in replay or blocking, with the method in place of the network's own fast track. All
methods see the same key frames: the decision is the network's, whatever carries the features. Results are confusion
matrices, so that several videos add up to one figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from lowlat.lab.accuracy import (
    DISTANCES,
    DecisionsOnly,
    RecordedVideo,
    age_bound_at,
    find_threshold,
    mean_interval,
)
from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.methods.base import Propagation, View
from lowlat.lab.metrics import Confusion
from lowlat.networks.labels import full_size_labels
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Engine, FrameResult, KeyFrame
from lowlat.runtime.replay import PAPER_DELAY, ReplayWorker
from lowlat.runtime.stages import High, Low
from lowlat.schedule import DEFAULT_AGE_BOUND, MEASURED, Every, Policy, Schedule


class LabelledVideo(RecordedVideo):
    """A recorded video with its labels: F_l, F_h and the per-frame labels of every frame, computed once.

    Args:
        data: a set with a video in it.
        frames: the video's items, as in ``data.videos``; by default all of the set.
    """

    def __init__(self, network: VideoNetwork, data: LabelledImages, frames: range | None = None):
        frames = range(len(data)) if frames is None else frames
        self.images = [data.image(index) for index in frames]
        self.truth = [data.label(index) for index in frames]
        self.first = frames.start
        super().__init__(network, [image.permute(1, 2, 0).numpy() for image in self.images])

    def __len__(self) -> int:
        return len(self.lows)

    def view(self, low: Low) -> View:
        """What a method may see of the frame that ``low`` belongs to."""
        index = self._index[id(low)]
        return View(self.images[index][None], low.features, self.first + index)

    def score(self, labels: Iterable[tuple[int, np.ndarray]]) -> Confusion:
        """Label maps by index in the video, against the truth; frames without labels are passed over."""
        confusion = Confusion(self.network.classes)
        for index, predicted in labels:
            if self.truth[index] is not None:
                confusion.add(torch.from_numpy(predicted), self.truth[index])
        return confusion


class MethodStages:
    """The engine's stages over a recorded video, propagation by ``method``."""

    def __init__(self, method: Propagation, video: LabelledVideo):
        self.lower, self.higher, self.measure = video.lower, video.higher, video.measure
        self._method, self._video = method, video
        self._key: KeyFrame | None = None
        self._state = None

    def classify(self, high: High) -> np.ndarray:
        return self._video.classify(high)

    @torch.inference_mode()
    def propagate(self, key: KeyFrame, low: Low) -> tuple[np.ndarray, High]:
        if self._key is None or key.origin is not self._key.origin or key.high is not self._key.high:
            self._key, self._state = key, self._method.begin(self._video.view(key.origin), key.high.features)
        scores, high = self._method.carry(self._state, self._video.view(low))
        return full_size_labels(scores, low.size)[0].numpy(), High(high, low.size)


@dataclass(frozen=True)
class Timing:
    """A schedule in replay.

    Args:
        policy: when a frame is a key frame.
        delay: frames from the launch of S_h to the first frame that uses its features; 0: it is waited for (blocking).
        age_bound: as in `Schedule`.
    """

    policy: Policy
    delay: int = PAPER_DELAY
    age_bound: int | None = DEFAULT_AGE_BOUND

    def run(self, stages, frames: int) -> list[FrameResult]:
        """Frames 0 to ``frames`` - 1 through the engine."""
        if self.delay == 0:
            engine = Engine(Schedule(self.policy, mode="blocking", age_bound=self.age_bound), stages)
        else:
            schedule = Schedule(self.policy, decision="deferred", age_bound=self.age_bound)
            engine = Engine(schedule, stages, ReplayWorker(stages.higher, self.delay))
        with engine:
            return [engine.step(index) for index in range(frames)]


def timing_at(video: RecordedVideo, policy: str, interval: float, delay: int = PAPER_DELAY) -> Timing:
    """A policy set so that its key frames come every ``interval`` frames of this video, on average.

    Args:
        policy: ``"every"`` or one of `MEASURED`.
        interval: frames; the bound on ages is `age_bound_at` it, since the usual one would set the rate by itself.

    Raises:
        ValueError: an unknown policy.
    """
    age_bound = age_bound_at(interval)
    if policy == "every":
        return Timing(Every(interval), delay, age_bound)
    if policy not in MEASURED:
        raise ValueError(f"timing_at: expected policy 'every' or one of {', '.join(MEASURED)}, got {policy!r}")
    stages = DecisionsOnly(video)

    def run(rule: Policy) -> list[FrameResult]:
        return Timing(rule, delay, age_bound).run(stages, len(video.lows))

    return Timing(find_threshold(policy, run, interval, age_bound), delay, age_bound)


@dataclass(frozen=True)
class Run:
    """A method on a video under a schedule."""

    results: list[FrameResult]
    confusion: Confusion

    @property
    def mean_interval(self) -> float:
        """Frames between key frames, after start-up."""
        return mean_interval(self.results)

    @property
    def mean_age(self) -> float:
        """Frames since S_h saw what the labels come from, after start-up."""
        return sum(result.age for result in self.results[1:]) / max(1, len(self.results) - 1)


def run_method(method: Propagation, video: LabelledVideo, timing: Timing) -> Run:
    """The video under a schedule."""
    results = timing.run(MethodStages(method, video), len(video))
    return Run(results, video.score((result.index, result.labels) for result in results))


def by_distance(
    method: Propagation,
    video: LabelledVideo,
    distances: Iterable[int] = DISTANCES,
    scenes: Iterable[range] | None = None,
) -> dict[int, Confusion]:
    """At exact distances from a true key frame, over every pair of the video.

    Args:
        scenes: where the video has cuts, its frames from cut to cut; a pair lies within one of them.
    """
    stages = MethodStages(method, video)
    confusions = {distance: Confusion(video.network.classes) for distance in distances}
    for index, stop in [(i, scene.stop) for scene in scenes or [range(len(video))] for i in scene]:
        key = KeyFrame(index, index, video.lows[index], video.highs[index])
        for distance, confusion in confusions.items():
            truth = video.truth[index + distance] if index + distance < stop else None
            if truth is not None:
                labels, _ = stages.propagate(key, video.lows[index + distance])
                confusion.add(torch.from_numpy(labels), truth)
    return confusions


def per_frame(video: LabelledVideo) -> Confusion:
    """The same network frame by frame: what every drop is quoted against."""
    return video.score(enumerate(video.per_frame))
