"""Runs an unlabelled video under a schedule and frame by frame with the same network, and measures how steady the
labels are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lowlat.jobs.cameras import refuse_live
from lowlat.jobs.live import Advance
from lowlat.jobs.policies import make_policy
from lowlat.jobs.progress import progress_bar
from lowlat.jobs.steadiness import Steadiness
from lowlat.lab.recorded import score_grid
from lowlat.lab.replay import PAPER_DELAY
from lowlat.lab.streaming import run_live
from lowlat.lab.timing import Timing
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import KeyFrame
from lowlat.runtime.stages import High, Low, NetworkStages
from lowlat.schedule import Adaptive, Policy, Signal
from lowlat.schedule.policies import MEASURED
from lowlat.segmenter import prepare
from lowlat.video.address import shown
from lowlat.video.frames import Source, SourceError, Timed, is_cut
from lowlat.video.source import open_source
from lowlat.video.steady import Steady


class Seen(NamedTuple):
    """A frame whose S_l and S_h have been computed."""

    low: Low
    high: High


class SeenStages:
    """The stages of a network on frames whose S_l and S_h have been computed, which are then only looked up."""

    def __init__(self, stages: NetworkStages) -> None:
        self._stages, self._seen = stages, None
        self.classify = stages.classify

    def lower(self, seen: Seen) -> Low:
        self._seen = seen
        return seen.low

    def higher(self, low: Low) -> High:
        # A schedule runs S_h on the frame under way.
        return self._seen.high if low is self._seen.low else self._stages.higher(low)

    def propagate(self, key: KeyFrame, low: Low, scores: str = "") -> tuple[Any, High]:
        return self._stages.propagate(key, low, scores)

    def hold(self, key: KeyFrame) -> None: ...

    def measure(self, key: KeyFrame, low: Low, signal: Signal) -> float:
        return self._stages.measure(key, low, signal)


def live_policy(
    network: VideoNetwork, policy: str, interval: float | None = None, threshold: float | None = None
) -> Policy:
    """Make the policy of a live run from these words: adaptive at the weights' threshold if none is given.

    Raises:
        ValueError: an unknown policy, or an option that it lacks or doesn't take.
    """
    if policy == "adaptive" and interval is None and threshold is None:
        return Adaptive(network.threshold)
    if policy in MEASURED and interval is not None:
        raise ValueError(
            f"evaluate: expected --threshold with policy {policy!r} on --video, got --interval {interval:g}; nothing "
            "is fitted to a video that nobody labelled"
        )
    if policy == "every" and interval is None:
        interval = 5
    return make_policy(policy, interval=interval, threshold=threshold)


def evaluate_clip(
    network: VideoNetwork,
    clip: str | Path,
    policy: Policy | None = None,
    *,
    delay: int = PAPER_DELAY,
    fps: float | None = None,
    max_frames: int | None = None,
    steady: bool = False,
    device: str | torch.device = "cpu",
) -> dict[str, object]:
    """Run a video under a schedule in replay, and with ``fps`` live too, compared with the network frame by frame.

    The video is read frame by frame and may be of any length; with ``fps`` it is read twice.

    Args:
        clip: a file, a folder of images or the address of a recording.
        policy: when a frame is a key frame; by default adaptive, at the weights' threshold.
        delay: frames until S_h lands; 0: it is waited for.
        fps: frames a second of a live run on this machine, whose S_h lands as late as it really does.
        max_frames: how many frames of the clip are used; None for all.
        steady: whether the labels in replay are those that `Steady` shows.

    Returns:
        Plain values for JSON: `SteadinessFigures` of the replay, and under ``live`` those of the live run beside what
        `Live` tells of it; ``size`` is ``(H, W)`` of the frames.

    Raises:
        SourceError: no such video, one of a single frame, or one that breaks off before ``max_frames``: no figures are
            given then.
        ValueError: a live source.
    """
    refuse_live("evaluate", str(clip), "frame by frame and schedule are compared on the same frames")
    policy = Adaptive(network.threshold) if policy is None else policy
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar())
        live = None
        if fps is not None:
            with open_source(clip) as source:
                advance = Advance(progress, f"live, {fps:g} fps", source.frames if max_frames is None else max_frames)
                prepared = prepare(network, device=device)
                live = run_live(prepared, islice(_told(source), max_frames), fps, policy=policy, on_answer=advance)
        source = stack.enter_context(open_source(clip))
        whole = NetworkStages(network, device=device)
        engine = stack.enter_context(Timing(policy, delay).engine(SeenStages(whole)))
        advance = Advance(progress, "frame by frame", source.frames if max_frames is None else max_frames)
        replayed, shown_live, before, cuts, ages = None, None, None, 0, []
        steadied = Steady()
        answers = iter(live.answers if live is not None else ())
        answer, cut_since = next(answers, None), False
        for frame, _, index in islice(_told(source), max_frames):
            seen = _look(whole, frame)
            if replayed is None:
                grid = score_grid(whole, seen.high)
                replayed, shown_live = Steadiness(grid), Steadiness(grid)
            per_frame = whole.classify(seen.high)
            result = engine.step(seen, index=index, scores="grid" if steady else "")
            labels = steadied(frame, result) if steady else result.labels
            cut = before is not None and is_cut(before, frame)
            replayed.add(labels, per_frame, cut=cut)
            cut_since = cut_since or cut
            if answer is not None and answer.index == index:
                shown_live.add(answer.labels, per_frame, cut=cut_since)
                answer, cut_since = next(answers, None), False
            before, cuts = frame, cuts + cut
            ages.append(result.age)
            advance()
        advance.draw()
        if len(ages) < 2:
            raise SourceError(
                f"evaluate: expected a video of at least 2 frames, got {shown(str(clip))!r} with {len(ages)}; name a "
                "longer one"
            )
        keys = engine.state.counts.keys - 1
        report = {
            "video": shown(Path(clip).name),
            "size": before.shape[:2],
            "frames": len(ages),
            "missing": list(source.missing),
            "cuts": cuts,
            "delay": delay,
            "threshold": getattr(policy, "threshold", None),
            "key_frames": keys,
            "mean_age": round(sum(ages) / (len(ages) - 1), 3),
            **replayed.figures().as_dict(),
        }
    if live is not None:
        report["live"] = {"fps": fps, **live.as_dict(), **shown_live.figures().as_dict()}
    return report


def _told(source: Source) -> Iterator[Timed]:
    """Yield the frames of a video; the error of one that breaks off also says how to have the figures of these."""
    count = 0
    try:
        for timed in source.timed():
            count += 1
            yield timed
    except SourceError as error:
        if count < 2:
            raise
        raise SourceError(f"{error}; --max-frames {count} gives the figures of these") from error


def _look(stages: NetworkStages, frame: np.ndarray) -> Seen:
    low = stages.lower(frame)
    return Seen(low, stages.higher(low))
