"""The accuracy protocol: a method of propagation on a labelled video, by distance from the key frame and by schedule.

Under a schedule the engine itself runs, S_h waited for or landing an exact number of frames after its launch, so that
figures depend on no machine's speed. The network's own fast track is one of the methods. Counts are confusion matrices,
one over a whole set; drops are quoted against the same network frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lowlat import models
from lowlat.jobs.progress import track
from lowlat.lab.data.dataset import LabelledImages, labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.methods import OURS, Method, build
from lowlat.lab.metrics import Confusion, Scores
from lowlat.lab.recorded import DecisionsOnly, LabelledVideo, MethodStages, check_classes, check_video
from lowlat.lab.replay import PAPER_DELAY, ReplayWorker
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Engine, FrameResult, KeyFrame
from lowlat.runtime.options import find_device
from lowlat.runtime.protocols import Stages
from lowlat.runtime.stages import NetworkStages, working_size
from lowlat.schedule import DEFAULT_AGE_BOUND, MEASURED, Every, Policy, Schedule

DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10)  # frames


@dataclass(frozen=True)
class Timing:
    """A schedule in replay.

    Args:
        policy: when a frame is a key frame.
        delay: frames from the launch of S_h to the first frame that uses its features; 0: it is waited for (blocking).
        age_bound: the bound on ages of `Schedule`.
    """

    policy: Policy
    delay: int = PAPER_DELAY
    age_bound: int | None = DEFAULT_AGE_BOUND

    def run(self, stages: Stages, frames: int) -> list[FrameResult]:
        """Send frames 0 to ``frames`` - 1, each given by its index, through the engine."""
        if self.delay == 0:
            engine = Engine(Schedule(self.policy, mode="blocking", age_bound=self.age_bound), stages)
        else:
            schedule = Schedule(self.policy, decision="deferred", age_bound=self.age_bound)
            engine = Engine(schedule, stages, ReplayWorker(stages.higher, self.delay))
        with engine:
            return [engine.step(index) for index in range(frames)]


def timing_at(
    video: LabelledVideo,
    policy: str,
    interval: float = 5,
    delay: int = PAPER_DELAY,
    *,
    threshold: float | None = None,
) -> Timing:
    """A policy set so that its key frames come every ``interval`` frames of this video, on average.

    Args:
        policy: ``"every"`` or one of `MEASURED`.
        interval: frames. The bound on ages is `DEFAULT_AGE_BOUND` or twice the interval, whichever is more, since the
            default one would set the rate of long intervals by itself.
        delay: frames, as in `Timing`.
        threshold: the policy's threshold, given in place of ``interval``.

    Raises:
        ValueError: an unknown policy, or a threshold for one that has none.
    """
    if policy != "every" and policy not in MEASURED:
        raise ValueError(f"timing_at: expected policy 'every' or one of {', '.join(MEASURED)}, got {policy!r}")
    if threshold is not None:
        if policy == "every":
            raise ValueError(
                f"timing_at: expected no threshold with policy 'every', got {threshold}; give an interval, or one of "
                f"{', '.join(MEASURED)}"
            )
        return Timing(MEASURED[policy](threshold, cut=None), delay)
    age_bound = max(DEFAULT_AGE_BOUND, math.ceil(2 * interval))
    if policy == "every":
        return Timing(Every(interval), delay, age_bound)
    stages = DecisionsOnly(video)

    def interval_of(rule: Policy) -> float:
        return mean_interval(Timing(rule, delay, age_bound).run(stages, len(video)))

    return Timing(_find_threshold(policy, interval_of, interval, age_bound), delay, age_bound)


def _find_threshold(policy: str, interval_of: Callable[[Policy], float], interval: float, age_bound: int) -> Policy:
    """The policy whose mean interval comes nearest to ``interval``; it looks for no cuts."""
    tried = {}
    # A deviation of 1 at the bound on ages is the most that accumulates.
    low, high = 0.0, float(age_bound) if policy == "accumulated" else 1.0
    for _ in range(14):
        threshold = (low + high) / 2
        found = interval_of(MEASURED[policy](threshold, cut=None))
        tried[threshold] = abs(found - interval)
        low, high = (threshold, high) if found < interval else (low, threshold)
    return MEASURED[policy](min(tried, key=tried.get), cut=None)


def mean_interval(results: list[FrameResult]) -> float:
    """Frames after start-up over key frames after start-up."""
    return (len(results) - 1) / max(1, sum(result.key for result in results[1:]))


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


def run_method(method: Method, video: LabelledVideo, timing: Timing) -> Run:
    """Run a method over the whole video under a schedule, and score the labels shown."""
    results = timing.run(MethodStages(method, video), len(video))
    return Run(results, video.score((result.index, result.labels) for result in results))


def by_distance(method: Method, video: LabelledVideo, distances: Iterable[int] = DISTANCES) -> dict[int, Confusion]:
    """Score a method at exact distances from a true key frame, over every pair of the video without a cut between."""
    stages = MethodStages(method, video)
    confusions = {distance: Confusion(video.network.classes) for distance in distances}
    for key, stop in track([(key, scene.stop) for scene in video.scenes for key in scene], "by distance"):
        key_frame = KeyFrame(key, key, video.lows[key], video.highs[key])
        for distance, confusion in confusions.items():
            truth = video.truth[key + distance] if key + distance < stop else None
            if truth is not None:
                labels, _ = stages.propagate(key_frame, video.lows[key + distance])
                confusion.add(torch.from_numpy(labels), truth)
    return confusions


def per_frame(video: LabelledVideo) -> Confusion:
    """Score the same network frame by frame: what every drop is quoted against."""
    return video.score(enumerate(video.per_frame))


def evaluate_images(network: VideoNetwork, data: LabelledImages, device: str | torch.device = "cpu") -> Scores:
    """Score a network frame by frame on every labelled image of a list.

    Raises:
        ValueError: nothing is labelled.
    """
    stages = NetworkStages(network, device=device, fast_track=False)
    confusion = Confusion(network.classes)
    for index in track(labelled_indices(data), f"{data.split} images"):
        frame = data.image(index).permute(1, 2, 0).numpy()
        labels = stages.classify(stages.higher(stages.lower(frame)))
        confusion.add(torch.from_numpy(labels), data.label(index))
    return Scores.of(confusion, data.classes)


@dataclass(frozen=True)
class VideoReport:
    """The network's own fast track on a labelled video under a schedule, beside the same network frame by frame."""

    policy: str
    delay: int
    threshold: float | None
    mean_interval: float
    mean_age: float
    per_frame: Scores
    scheduled: Scores
    reuse: Scores
    """The labels of the frame that the features come from, shown unchanged: at the same distances."""

    @property
    def drop(self) -> float:
        """mIoU points lost against frame by frame."""
        return self.per_frame.miou - self.scheduled.miou

    @property
    def gain(self) -> float:
        """mIoU points above reuse."""
        return self.scheduled.miou - self.reuse.miou

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "drop": round(self.drop, 2), "gain": round(self.gain, 2)}


def evaluate_video(
    video: LabelledVideo,
    *,
    policy: str = "adaptive",
    interval: float = 5,
    threshold: float | None = None,
    delay: int = PAPER_DELAY,
) -> VideoReport:
    """Run a labelled video (CamVid's ``val``) under a schedule, scored on its labelled frames; it may have cuts.

    Args:
        policy, interval, threshold, delay: see :func:`timing_at`.

    Raises:
        ValueError: an unknown policy, or a threshold for one that has none.
    """
    timing = timing_at(video, policy, interval, delay, threshold=threshold)
    run = run_method(build(OURS, video.network), video, timing)
    reused = video.score((result.index, video.per_frame[result.index - result.age]) for result in run.results)
    return VideoReport(
        policy=policy,
        delay=delay,
        threshold=getattr(timing.policy, "threshold", None),
        mean_interval=run.mean_interval,
        mean_age=run.mean_age,
        per_frame=Scores.of(per_frame(video), video.classes),
        scheduled=Scores.of(run.confusion, video.classes),
        reuse=Scores.of(reused, video.classes),
    )


def evaluate_distances(video: LabelledVideo) -> list[dict[str, float]]:
    """mIoU at exact distances from a true key frame: the network's own fast track, and reuse of the key frame.

    A distance that no two frames of a scene have, the later one labelled, has no row.
    """
    ours, reuse = (by_distance(build(name, video.network), video) for name in (OURS, "reuse"))
    return [
        {"distance": distance, "miou": round(ours[distance].miou, 2), "reuse_miou": round(reuse[distance].miou, 2)}
        for distance in DISTANCES
        if ours[distance].counts.any()
    ]


def evaluate(
    data: str | Path,
    weights: str | Path = "lite",
    *,
    images: bool = True,
    video: bool = True,
    distances: bool = False,
    policy: str = "adaptive",
    interval: float = 5,
    threshold: float | None = None,
    delay: int = PAPER_DELAY,
    pixels: int | str | None = "default",
    device: str | torch.device = "cpu",
) -> dict[str, object]:
    """The figures of a network on a labelled set, as plain values for JSON. `lowlat evaluate` is a shell over this.

    The network sees images at its working size, as it does live; labels are compared at the size of the true ones. The
    report says at what size that was.

    Args:
        data: a folder, or a kind and its place, as `open_dataset` takes it.
        weights: a shipped network's name or a file.
        images: whether to score the list ``test`` frame by frame.
        video: whether to run the labelled video of the list ``val`` under a schedule, see :func:`evaluate_video`.
        distances: whether to score that video by exact distance from the key frame.
        pixels: of the working size, as in `VideoSegmenter`.
        device: where the network runs, ``"cpu"``, ``"cuda"``, ...; it must hold F_l and F_h of the whole video.

    Raises:
        ValueError: no such set, no labels or no video in it, or classes not as many as the network's; options that
            contradict each other.
        RuntimeError: no such GPU.
    """
    device = find_device("evaluate", device)
    network = models.load(weights)
    if pixels != "default":
        network.pixels = pixels
    report: dict[str, object] = {"weights": str(weights), "working_size": {}}
    if images:
        labelled = _open(data, "test", network)
        report["test_per_frame"] = asdict(evaluate_images(network, labelled, device))
        report["working_size"]["test"] = _working_size(network, labelled)
    if video or distances:
        labelled = _open(data, "val", network)
        check_video("evaluate", labelled)
        recorded = LabelledVideo(network, labelled, device=device)
        report["working_size"]["val"] = _working_size(network, labelled)
        if video:
            options = {"policy": policy, "interval": interval, "threshold": threshold, "delay": delay}
            report["video"] = evaluate_video(recorded, **options).as_dict()
        if distances:
            report["distances"] = evaluate_distances(recorded)
    return report


def _working_size(network: VideoNetwork, data: LabelledImages) -> str:
    """At what size the network sees the first image of a list, in words."""
    height, width = data.image(0).shape[-2:]
    h, w = working_size(height, width, network.pixels, network.multiple)
    return f"{w}x{h}, images of {width}x{height}"


def _open(spec: str | Path, split: str, network: VideoNetwork) -> LabelledImages:
    data = open_dataset(spec, split)
    check_classes("evaluate", network, data)
    return data
