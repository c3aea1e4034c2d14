"""The accuracy protocol: one confusion matrix a set, drops against the same network's own per-frame figure.

The video figures come from the engine itself in replay: S_h lands an exact number of frames after its launch, so they
depend on no machine's speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lowlat import models
from lowlat.jobs.progress import track
from lowlat.lab.data.dataset import LabelledImages, labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.metrics import Confusion
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Engine, FrameResult, KeyFrame
from lowlat.runtime.replay import PAPER_DELAY, ReplayWorker
from lowlat.runtime.stages import High, Low, NetworkStages
from lowlat.schedule import DEFAULT_AGE_BOUND, MEASURED, Every, Policy, Schedule, Signal

DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10)  # frames


@dataclass(frozen=True)
class Scores:
    """Percent: mean IoU, pixel accuracy, mean class accuracy; IoU by class, None for one that does not occur."""

    miou: float
    pixel_accuracy: float
    class_accuracy: float
    class_iou: dict[str, float | None]

    @staticmethod
    def of(confusion: Confusion, classes: Sequence[str]) -> Scores:
        ious = zip(classes, confusion.class_iou.tolist(), strict=True)
        by_class = {name: None if math.isnan(iou) else round(100 * iou, 2) for name, iou in ious}
        figures = (confusion.miou, confusion.pixel_accuracy, confusion.class_accuracy)
        return Scores(*(round(figure, 2) for figure in figures), by_class)


@dataclass(frozen=True)
class VideoReport:
    """The labelled video under a schedule in replay, beside the same network frame by frame."""

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


class RecordedVideo(NetworkStages):
    """Stages over a video whose frames are given by index, each one's F_l and F_h computed once and kept."""

    def __init__(self, network: VideoNetwork, frames: list[np.ndarray]):
        super().__init__(network)
        self.lows, self.highs, self.per_frame = [], [], []
        for frame in track(frames, "frame by frame"):
            self.lows.append(super().lower(frame))
            self.highs.append(super().higher(self.lows[-1]))
            self.per_frame.append(super().classify(self.highs[-1]))
        self._index = {id(low): index for index, low in enumerate(self.lows)}

    def lower(self, frame: int) -> Low:
        return self.lows[frame]

    def higher(self, low: Low) -> High:
        return self.highs[self._index[id(low)]]


class DecisionsOnly:
    """Stages that decide and launch but label nothing: for trying thresholds quickly, each pair measured once."""

    def __init__(self, video: RecordedVideo):
        self.lower, self.higher = video.lower, video.higher
        self._measure, self._measured = video.measure, {}

    def measure(self, key: KeyFrame, low: Low, signal: Signal) -> float:
        pair = id(key.low), id(low), signal
        if pair not in self._measured:
            self._measured[pair] = self._measure(key, low, signal)
        return self._measured[pair]

    def classify(self, high: High) -> None:
        return None

    def propagate(self, key: KeyFrame, low: Low) -> tuple[None, High]:
        return None, key.high


def replay(stages, frames: int, schedule: Schedule, delay: int) -> list[FrameResult]:
    """Run frames 0 to ``frames`` - 1 through the engine, S_h landing ``delay`` frames after its launch."""
    with Engine(schedule, stages, ReplayWorker(stages.higher, delay)) as engine:
        return [engine.step(index) for index in range(frames)]


def mean_interval(results: list[FrameResult]) -> float:
    """Frames after start-up over key frames after start-up."""
    return (len(results) - 1) / max(1, sum(result.key for result in results[1:]))


def find_threshold(
    policy: str, run: Callable[[Policy], list[FrameResult]], interval: float, age_bound: int = DEFAULT_AGE_BOUND
) -> Policy:
    """A policy whose threshold is set so that key frames come nearest to every ``interval`` frames, in the mean.

    Args:
        policy: one of `MEASURED`; it looks for no cuts.
        run: a video under a policy.
        age_bound: of that run, in frames.
    """
    tried = {}
    # A deviation of 1 at the bound on ages is the most that accumulates.
    low, high = 0.0, float(age_bound) if policy == "accumulated" else 1.0
    for _ in range(14):
        threshold = (low + high) / 2
        found = mean_interval(run(MEASURED[policy](threshold, cut=None)))
        tried[threshold] = abs(found - interval)
        low, high = (threshold, high) if found < interval else (low, threshold)
    return MEASURED[policy](min(tried, key=tried.get), cut=None)


def age_bound_at(interval: float) -> int:
    """A bound on ages that leaves key frames every ``interval`` frames to the policy: the usual one, or twice that."""
    return max(DEFAULT_AGE_BOUND, math.ceil(2 * interval))


def check_classes(who: str, network: VideoNetwork, data: LabelledImages) -> None:
    """``ValueError`` where labels and network don't tell as many classes apart."""
    if len(data.classes) != network.classes:
        raise ValueError(
            f"{who}: expected data of the network's {network.classes} classes, got {len(data.classes)}; "
            "give weights trained on this data"
        )


def check_video(who: str, data: LabelledImages) -> None:
    """``ValueError`` where a list holds no labelled video."""
    if not data.videos or len(data) < 2 or not any(map(data.labelled, range(len(data)))):
        raise ValueError(
            f"{who}: expected a labelled video of two frames or more in the list {data.split!r}, got {len(data)} "
            f"images, {sum(map(data.labelled, range(len(data))))} of them labelled, {len(data.videos)} videos; "
            "use other data"
        )


def evaluate_images(network: VideoNetwork, data: LabelledImages) -> Scores:
    """Frame by frame, on every labelled image of a list.

    Raises:
        ValueError: nothing is labelled.
    """
    stages = NetworkStages(network, fast_track=False)
    confusion = Confusion(network.classes)
    for index in track(labelled_indices(data), f"{data.split} images"):
        frame = data.image(index).permute(1, 2, 0).numpy()
        labels = stages.classify(stages.higher(stages.lower(frame)))
        confusion.add(torch.from_numpy(labels), data.label(index))
    return Scores.of(confusion, data.classes)


def record(network: VideoNetwork, data: LabelledImages) -> RecordedVideo:
    """Compute F_l, F_h and the per-frame labels of a video once; it holds all of them in memory."""
    return RecordedVideo(network, [data.image(i).permute(1, 2, 0).numpy() for i in range(len(data))])


def evaluate_video(
    video: RecordedVideo,
    data: LabelledImages,
    *,
    policy: str = "adaptive",
    interval: float = 5,
    threshold: float | None = None,
    delay: int = PAPER_DELAY,
) -> VideoReport:
    """A labelled video (CamVid's ``val``) in replay, scored on its labelled frames.

    Args:
        data: a set whose frames are one stream; it may have cuts.
        policy: ``"every"`` or one of `MEASURED`.
        interval: frames between key frames; a threshold is set so that their mean comes near it.
        threshold: of the policies that have one, instead of ``interval``.
        delay: frames from the launch of S_h to the first frame that uses its features.

    Raises:
        ValueError: an unknown policy, or a threshold for one that has none.
    """
    stages = DecisionsOnly(video)
    age_bound = age_bound_at(interval) if threshold is None else DEFAULT_AGE_BOUND

    def scheduled(rule: Policy) -> Schedule:
        return Schedule(rule, decision="deferred", age_bound=age_bound)

    if policy == "every":
        if threshold is not None:
            raise ValueError(f"evaluate_video: expected no threshold with policy 'every', got {threshold}")
        rule = Every(interval)
    elif policy not in MEASURED:
        raise ValueError(f"evaluate_video: expected policy 'every' or one of {', '.join(MEASURED)}, got {policy!r}")
    elif threshold is not None:
        rule = MEASURED[policy](threshold, cut=None)
    else:
        decide = partial(replay, stages, len(data), delay=delay)
        rule = find_threshold(policy, lambda rule: decide(scheduled(rule)), interval, age_bound)
    results = replay(video, len(data), scheduled(rule), delay)
    truth = [data.label(i) for i in range(len(data))]

    def score(labels: Callable[[FrameResult], np.ndarray]) -> Scores:
        confusion = Confusion(video.network.classes)
        for result in results:
            if (true := truth[result.index]) is not None:
                confusion.add(torch.from_numpy(labels(result)), true)
        return Scores.of(confusion, data.classes)

    return VideoReport(
        policy=policy,
        delay=delay,
        threshold=getattr(rule, "threshold", None),
        mean_interval=mean_interval(results),
        mean_age=sum(result.age for result in results[1:]) / (len(results) - 1),
        per_frame=score(lambda result: video.per_frame[result.index]),
        scheduled=score(lambda result: result.labels),
        reuse=score(lambda result: video.per_frame[result.index - result.age]),
    )


def evaluate_distances(video: RecordedVideo, data: LabelledImages) -> list[dict[str, float]]:
    """mIoU at exact distances from a true key frame: propagation with fusion, and reuse of the key frame's labels."""
    rows = []
    for distance in track(DISTANCES, "distances"):
        ours, reuse = Confusion(video.network.classes), Confusion(video.network.classes)
        for index in range(len(data)):
            before = index - distance
            # Not across a cut.
            if not data.labelled(index) or not any(before in part and index in part for part in data.videos):
                continue
            key = KeyFrame(before, before, video.lows[before], video.highs[before])
            truth = data.label(index)
            ours.add(torch.from_numpy(video.propagate(key, video.lows[index])[0]), truth)
            reuse.add(torch.from_numpy(video.per_frame[before]), truth)
        rows.append({"distance": distance, "miou": round(ours.miou, 2), "reuse_miou": round(reuse.miou, 2)})
    return rows


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
) -> dict[str, object]:
    """The figures of a network on a labelled set, as plain values for JSON.

    Args:
        data: as for `open_dataset`: a folder, or a kind and its place.
        weights: a shipped network's name or a file.
        images: per frame on the ``test`` list.
        video: the labelled video ``val`` under a schedule, see :func:`evaluate_video`.
        distances: also by exact distance from the key frame.

    Raises:
        ValueError: no such set, no labels or no video in it, or classes not as many as the network's; options that
            contradict each other.
    """
    network = models.load(weights)
    report: dict[str, object] = {"weights": str(weights)}
    if images:
        report["test_per_frame"] = asdict(evaluate_images(network, _open(data, "test", network)))
    if video or distances:
        labelled = _open(data, "val", network)
        check_video("evaluate", labelled)
        recorded = record(network, labelled)
        if video:
            options = {"policy": policy, "interval": interval, "threshold": threshold, "delay": delay}
            report["video"] = evaluate_video(recorded, labelled, **options).as_dict()
        if distances:
            report["distances"] = evaluate_distances(recorded, labelled)
    return report


def _open(spec: str | Path, split: str, network: VideoNetwork) -> LabelledImages:
    data = open_dataset(spec, split)
    check_classes("evaluate", network, data)
    return data
