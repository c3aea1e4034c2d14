"""The accuracy protocol: a method of propagation on a labelled video, by distance from the key frame and by schedule.

Under a schedule the engine itself runs, S_h waited for or landing an exact number of frames after its launch, so that
figures depend on no machine's speed. The network's own fast track is one of the methods. Counts are confusion matrices,
one over a whole set; drops are quoted against the same network frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lowlat import models
from lowlat.jobs.progress import track
from lowlat.jobs.steadiness import SteadinessFigures
from lowlat.jobs.untrained import check_trained
from lowlat.lab.clip import evaluate_clip, live_policy
from lowlat.lab.data.dataset import LabelledImages, check_classes, labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.methods import OURS, Method, build
from lowlat.lab.metrics import Confusion, Scores
from lowlat.lab.notices import notice
from lowlat.lab.recorded import LabelledVideo, MethodStages, check_video
from lowlat.lab.replay import PAPER_DELAY
from lowlat.lab.streaming import run_live
from lowlat.lab.timing import Timing, mean_interval, timing_at
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import FrameResult, KeyFrame
from lowlat.runtime.options import find_device
from lowlat.runtime.stages import NetworkStages, working_size
from lowlat.schedule import PerFrame, Policy
from lowlat.segmenter import prepare
from lowlat.video.frames import Timed
from lowlat.video.steady import Steady

DISTANCES = (1, 2, 3, 4, 5, 6, 8, 10)  # frames


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
        """The mean of the frames since the source of the labels, after start-up."""
        return sum(result.age for result in self.results[1:]) / max(1, len(self.results) - 1)


def run_method(method: Method, video: LabelledVideo, timing: Timing, *, steady: bool = False) -> Run:
    """Run a method over the whole video under a schedule, and score the labels shown; with ``steady`` those that
    `Steady` shows."""
    results = timing.run(MethodStages(method, video), len(video), "grid" if steady else "")
    if steady:
        steadied = Steady()
        for image, result in zip(video.images, results, strict=True):
            result.labels = steadied(image.permute(1, 2, 0).numpy(), result)
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
    """Score the same network frame by frame, against which every drop is quoted."""
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
    steadiness: SteadinessFigures

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
    steady: bool = False,
) -> VideoReport:
    """Run a labelled video (CamVid's ``val``) under a schedule, scored on its labelled frames; it may have cuts.

    Args:
        policy, interval, threshold, delay: see :func:`timing_at`.
        steady: whether the labels under the schedule are those that `Steady` shows.

    Raises:
        ValueError: an unknown policy, or a threshold for one that has none.
    """
    timing = timing_at(video, policy, interval, delay, threshold=threshold)
    run = run_method(build(OURS, video.network), video, timing, steady=steady)
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
        steadiness=video.steadiness((result.index, result.labels) for result in run.results),
    )


def evaluate_live(network: VideoNetwork, video: LabelledVideo, fps: float, policy: Policy) -> dict[str, object]:
    """Run a labelled video live on this machine, as a camera of ``fps`` frames a second would give it.

    Its S_h lands as late as it does, its labels are scored against the truth of their own frame and of the time at
    which they are done, and so are those of the same network frame by frame, which drops the frames it has no time for.

    Args:
        network: the one that ``video`` was recorded with.

    Returns:
        Plain values for JSON.
    """
    frames = [
        Timed(image.permute(1, 2, 0).contiguous().numpy(), index / fps, index)
        for index, image in enumerate(video.images)
    ]
    prepared = prepare(network, device=video.device)
    low_latency = run_live(prepared, frames, fps, policy=policy)
    whole = run_live(prepared, frames, fps, policy=PerFrame(), mode="blocking")
    return {
        "fps": fps,
        **low_latency.as_dict(),
        **video.steadiness((answer.index, answer.labels) for answer in low_latency.answers).as_dict(),
        "low_latency": low_latency.streaming(video.truth, network.classes),
        "frame_by_frame": whole.streaming(video.truth, network.classes),
    }


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
    data: str | Path | None = None,
    weights: str | Path = "lite",
    *,
    images: bool = True,
    video: bool = True,
    distances: bool = False,
    clip: str | Path | None = None,
    policy: str = "adaptive",
    interval: float | None = None,
    threshold: float | None = None,
    delay: int = PAPER_DELAY,
    fps: float | None = None,
    max_frames: int | None = None,
    steady: bool = False,
    pixels: int | str | None = "default",
    device: str | torch.device = "cpu",
) -> dict[str, object]:
    """The figures of a network on a labelled set, and on an unlabelled video, as plain values for JSON. `lowlat
    evaluate` is a shell over this.

    The network sees images at its working size, as it does live; labels are compared at the size of the true ones. The
    report says at what size that was.

    Args:
        data: a folder, or a kind and its place, as `open_dataset` takes it; None for the clip alone.
        weights: a shipped network's name or a file.
        images: whether to score the list ``test`` frame by frame.
        video: whether to run the labelled video of the list ``val`` under a schedule, see :func:`evaluate_video`.
        distances: whether to score that video by exact distance from the key frame.
        clip: an unlabelled video, see `evaluate_clip`. Its policy is the one that a live run has from the same words
            (`live_policy`): nothing is fitted to it.
        policy, interval, threshold, delay: see `timing_at`; the interval is 5 frames by default.
        fps: frames a second at which both kinds of video are run live too, see :func:`evaluate_live`.
        max_frames: how many frames of the clip are used; None for all.
        steady: whether labels under the schedule are those that `Steady` shows, in replay.
        pixels: the pixels of the working size, as in `VideoSegmenter`.
        device: where the network runs, ``"cpu"``, ``"cuda"``, ...; it must hold F_l and F_h of the labelled video.

    Raises:
        ValueError: no such set or clip, no labels or no video in it, or classes not as many as the network's; weights
            that label nothing yet; options that contradict each other.
        RuntimeError: no such GPU.
    """
    if data is None and clip is None:
        raise ValueError("evaluate: expected --data or --video, got neither; name a labelled set, or any video")
    labelled_video = data is not None and video
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"evaluate: expected --fps above 0, got {fps!r}; give a rate that is live, such as 10")
    if max_frames is not None and max_frames < 2:
        raise ValueError(f"evaluate: expected --max-frames of at least 2, got {max_frames}; the first one is start-up")
    if fps is not None and clip is None and not labelled_video:
        raise ValueError(f"evaluate: expected --fps {fps:g} with a video to run live, got none; give --video")
    if max_frames is not None and clip is None:
        raise ValueError(f"evaluate: expected --max-frames {max_frames} with --video, got none; leave it out")
    if steady and fps is not None:
        raise ValueError(f"evaluate: expected --steady in replay, got it with --fps {fps:g}; leave one of them out")
    if steady and clip is None and not labelled_video:
        raise ValueError("evaluate: expected --steady with a video under a schedule, got none; give --video")
    device = find_device("evaluate", device)
    network = models.load(weights)
    if pixels != "default":
        network.pixels = pixels
    fast_track = labelled_video or distances or clip is not None
    if said := check_trained("evaluate", network, fast_track=fast_track, without="" if clip else "--no-video"):
        notice(said)
    clip_policy = None if clip is None else live_policy(network, policy, interval, threshold)
    interval = 5 if interval is None else interval
    report: dict[str, object] = {"weights": str(weights), "working_size": {}, **({"steady": True} if steady else {})}
    if data is not None and images:
        labelled = _open(data, "test", network)
        report["test_per_frame"] = asdict(evaluate_images(network, labelled, device))
        report["working_size"]["test"] = _working_size(network, *labelled.image(0).shape[-2:])
    if data is not None and (video or distances):
        labelled = _open(data, "val", network)
        check_video("evaluate", labelled)
        recorded = LabelledVideo(network, labelled, device=device)
        report["working_size"]["val"] = _working_size(network, *labelled.image(0).shape[-2:])
        if video:
            options = {"policy": policy, "interval": interval, "delay": delay}
            found = evaluate_video(recorded, threshold=threshold, steady=steady, **options)
            report["video"] = found.as_dict()
            if fps is not None:
                rule = timing_at(recorded, threshold=found.threshold, **options).policy
                report["video"]["live"] = evaluate_live(network, recorded, fps, rule)
        if distances:
            report["distances"] = evaluate_distances(recorded)
    if clip is not None:
        options = {"delay": delay, "fps": fps, "max_frames": max_frames, "steady": steady, "device": device}
        found = evaluate_clip(network, clip, clip_policy, **options)
        report["working_size"]["clip"] = _working_size(network, *found.pop("size"))
        report["clip"] = {"policy": policy, **found}
    return report


def _working_size(network: VideoNetwork, height: int, width: int) -> str:
    """Return the size at which the network sees images of a size, in words."""
    h, w = working_size(height, width, network.pixels, network.multiple)
    return f"{w}x{h}, images of {width}x{height}"


def _open(spec: str | Path, split: str, network: VideoNetwork) -> LabelledImages:
    data = open_dataset(spec, split)
    check_classes("evaluate", network, data.classes, weights="the weights", mend="weights trained on this data")
    return data
