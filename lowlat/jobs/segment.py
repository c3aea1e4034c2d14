"""The job behind `lowlat segment`: any source is labelled at its own pace, and the labels are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lowlat.classes import Classes
from lowlat.jobs.cameras import GRACE_S, away, check_patience, failures_told, gaps_of, in_one_line, stalls_told
from lowlat.jobs.live import Advance, Summary, Tally, label_frames
from lowlat.jobs.outputs import Opened, form_of, open_output
from lowlat.jobs.policies import choose_policy
from lowlat.jobs.progress import progress_bar
from lowlat.jobs.report.live import LiveReport
from lowlat.jobs.report.record import settings_of
from lowlat.jobs.untrained import check_trained
from lowlat.runtime import FrameResult, Overload
from lowlat.runtime.options import find_device
from lowlat.schedule import Mode, PerFrame
from lowlat.segmenter import VideoSegmenter, prepare
from lowlat.video.address import masked, shown
from lowlat.video.frames import Timed
from lowlat.video.overlay import Overlay
from lowlat.video.places import missing_line
from lowlat.video.rate import at_rate
from lowlat.video.reconnect import say_on_stderr
from lowlat.video.sink import SinkError, VideoSink
from lowlat.video.source import STALL_S, Source, open_source
from lowlat.video.steady import Steady
from lowlat.video.writer import BackgroundWriter


@dataclass(frozen=True)
class SegmentReport:
    """What :func:`segment` did."""

    input: str
    output: str
    width: int
    """The width of the frames and of label maps, in pixels; ``height`` likewise."""
    height: int
    interrupted: bool
    summary: Summary
    missing: list[int] = field(default_factory=list)
    """Numbers of the source's frames that could not be decoded."""
    gaps: tuple[dict[str, object], ...] = ()
    """Times without a live source, as `Gap.as_dict` gives them."""
    error: str | None = None
    """What the run broke off with; None if it ended well or was interrupted."""
    video_size: tuple[int, int] | None = None
    """``(width, height)`` of the video written, which the legend makes taller than a frame; None without a video."""

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        report = asdict(self)
        figures = report.pop("summary")
        return {**report, **figures}


def segment(
    source: str | Path,
    output: str | Path,
    *,
    weights: str | Path = "lite",
    policy: str | None = None,
    interval: float | None = None,
    threshold: float | None = None,
    mode: str = "low-latency",
    decision: str | None = None,
    overload: str | None = None,
    fps: float | None = None,
    constant_rate: bool = False,
    audio: bool = True,
    max_frames: int | None = None,
    resize: tuple[int, int] | None = None,
    pixels: int | str | None = "default",
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    labels: str | None = None,
    names: str | None = None,
    pipe_format: str | None = None,
    steady: bool = False,
    report_dir: str | Path | None = None,
    reconnect_s: float = math.inf,
    stall_s: float = STALL_S,
    wait_s: float = 0.0,
    on_failure: Callable[[SegmentReport], None] | None = None,
    console: Console | None = None,
) -> SegmentReport:
    """Segment a source and write what comes out, drawing and encoding beside the path of the frames.

    Interrupted by Ctrl-C, or if the source breaks, it closes the output, so that what was written plays.

    Args:
        source: a video file, a folder of images, ``img%03d.png``, a glob, a camera's number, an address, or ``-``
            for standard input.
        output: a video (``.mp4``, ``.mkv``, ``.mov``) with the segmentation over the frames and a legend below, which
            takes the place of one that is there, a folder of label maps, or ``-`` for standard output.
        weights: a shipped network's name or a file.
        policy, interval, threshold: when a frame is a key frame; by default as the weights say.
        mode, decision: as in `VideoSegmenter`.
        overload: ``"drop-oldest"``, ``"drop-newest"`` or ``"wait"``; by default the first for live
            sources, the last for files.
        fps: hand out the frames of a file at this rate, as a camera would; the rate of sources without times.
        constant_rate: write a video at a constant rate; by default its pictures bear the times of the source.
        audio: copy the sound of a video file into the video.
        max_frames: stop after so many frames of the source.
        resize: scale frames to ``(width, height)`` first; label maps have that size too, a video is taller by its
            legend.
        pixels: the pixels of the working size, as in `VideoSegmenter`.
        device: "cpu", "cuda" or "cuda:1".
        dtype: "float32", "bfloat16" or "float16"; by default float32.
        labels: how label maps are written: "palette" (by default), "grey" or "rle".
        names: what label maps are called: "index" or "stem"; by default stems where the source has them.
        pipe_format: what standard output gets: "mkv" (by default) or "jsonl".
        steady: whether the labels written are those that `Steady` shows.
        report_dir: a folder for ``report.html``, ``report.json`` and ``trace.json``: the run, to be read afterwards.
        reconnect_s: seconds for which a live source that was lost is waited for, by default for ever; 0 ends the run.
        stall_s: seconds without a frame after which a live source counts as lost.
        wait_s: seconds for which a live source that can't be opened at first is tried again.
        on_failure: called with the report of a run that breaks off, before the error is raised.
        console: where the progress bar goes; None for nowhere.

    Raises:
        TimeoutError: a live source has stalled, and can't be opened again.
        SourceError, SinkError, ValueError: bad input, told before any work starts where it can be.
        BrokenPipeError: whoever read standard output has gone.
        RuntimeError: no such GPU.
    """
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"segment: expected --max-frames of at least 1, got {max_frames}; leave it out for all")
    check_patience("segment", reconnect_s, stall_s)
    rule = choose_policy(policy, interval, threshold)
    steadied = Steady() if steady else None
    words = [word.value for word in Overload]
    if overload is not None and overload not in words:
        raise ValueError(
            f"segment: expected --overload to be one of {', '.join(words)}, got {overload!r}; name one of them"
        )
    form = form_of(source, output, labels, names, pipe_format)
    if Path(source).is_file() and Path(output).is_file() and Path(source).samefile(output):
        raise SinkError(
            f"segment: expected an output beside the input, got {str(output)!r} for both; rename the output"
        )
    options = {"pixels": pixels, **({} if dtype is None else {"dtype": dtype})}
    network = prepare(weights, device=find_device("segment", device), **options)
    per_frame = mode == Mode.BLOCKING and isinstance(rule, PerFrame)
    without = "--mode blocking --policy per-frame"
    if notice := check_trained("segment", network.network, fast_track=not per_frame, without=without):
        say_on_stderr(notice)
    classes = network.network.legend
    tally = Tally()
    written: tuple[int, int] | None = None
    kept: LiveReport | None = None

    def report(interrupted: bool, error: str | None = None) -> SegmentReport:
        found = (tally.summary(), opened.missing, gaps_of(opened), error, written)
        return SegmentReport(shown(str(source)), masked(str(output)), *opened.size, interrupted, *found)

    def broken(found: SegmentReport) -> None:
        if kept is not None and found.summary.frames:
            # The error to report is the one that the run broke off with.
            with suppress(SinkError):
                kept.write(found.as_dict())
        if on_failure is not None:
            on_failure(found)

    waiting = {"reconnect_s": reconnect_s, "stall_s": stall_s, "wait_s": wait_s}
    with open_source(source, resize=resize, any_size=True, **waiting) as opened, failures_told(broken, report):
        if fps is not None and opened.live:
            raise ValueError(
                f"segment: expected --fps with a file, got it with {opened.name!r}, which is live and comes at its own "
                "pace; leave it out"
            )
        frames: Iterable[Timed] = itertools.islice(opened.timed(), max_frames)
        if fps is not None:
            frames = at_rate(frames, fps)
            if opened.untimed:
                opened.fps = Fraction(fps).limit_denominator(60000)
        if report_dir is not None:
            sides = None if resize is None else f"{resize[0]}x{resize[1]}"
            asked = {"mode": mode, "decision": decision, "overload": overload, "fps": fps, "max_frames": max_frames}
            asked |= {"steady": True} if steady else {}
            asked |= {"resize": sides, "pixels": pixels, "device": str(device), "dtype": dtype or "float32"}
            settings = settings_of(weights, rule, source=shown(str(source)), **asked)
            kept = LiveReport(report_dir, output, video=form.video, settings=settings)
        writing = partial(_writing, audio=audio) if form.video else partial(open_output, form)
        write, close, written = writing(output, opened, classes, constant=constant_rate)
        interrupted = False
        try:
            # A file read as fast as it can be leaves no time between its frames for parts of S_h on a CPU.
            beside = network.device.type == "cpu" and not opened.live and fps is None
            options = {"mode": mode, "decision": decision, "isolation": "priority" if beside else None}
            with VideoSegmenter(network, policy=rule, **options) as segmenter:
                with progress_bar(console or Console(quiet=True), auto_refresh=False) as progress:
                    total = min((n for n in (opened.frames, max_frames) if n is not None), default=None)
                    advance = Advance(progress, "segmenting", total)
                    with closing(BackgroundWriter(write)) as writer:

                        def settled(frame: np.ndarray, result: FrameResult) -> None:
                            advance()
                            if kept is not None:
                                kept.add(result)
                            if steadied is not None:
                                result.labels, result.scores = steadied(frame, result), None
                            writer.put(frame, result)

                        limit = stall_s + GRACE_S if opened.live else None
                        with stalls_told("segment", opened, limit):
                            label_frames(
                                segmenter,
                                frames,
                                settled,
                                tally,
                                overload=overload or _overload(opened, fps),
                                stall_s=limit,
                                away=away(opened),
                                scores="" if steadied is None else "grid",
                            )
                    advance.draw()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            close()
        found = report(interrupted)
        if kept is not None:
            kept.write(found.as_dict())
    return found


def failed(source: str | Path, output: str | Path, error: BaseException) -> SegmentReport:
    """Make the report of a run that broke off before its source was open."""
    interrupted = isinstance(error, KeyboardInterrupt)
    told = None if interrupted else in_one_line(error)
    return SegmentReport(shown(str(source)), masked(str(output)), 0, 0, interrupted, Tally().summary(), error=told)


def missing_words(report: SegmentReport) -> str:
    """Say in one line which frames of the source could not be decoded; empty if all could."""
    return missing_line(report.input, report.missing) if report.missing else ""


def table(report: SegmentReport) -> Table:
    """Make the table of figures for a terminal."""
    figures = report.summary
    title = f"{report.input}, {report.width}x{report.height}, to {report.output}"
    if report.video_size is not None:
        title += ", {}x{} with its legend".format(*report.video_size)
    # Names may hold what would be markup in a string.
    rows = Table("", show_header=False, title=Text(title, style="table.title"))
    rows.add_column(justify="right")
    rows.add_row("frames answered", str(figures.frames))
    rows.add_row("frames dropped", str(figures.dropped))
    for name in ("startup", "median", "p99", "max"):
        value = getattr(figures, f"{name}_ms")
        rows.add_row(f"{name} latency", "" if value is None else f"{value:.1f} ms")
    rows.add_row("key frames", str(figures.key_frames))
    rows.add_row("S_h landings", str(figures.landings))
    rows.add_row("degraded frames", str(figures.degraded))
    if figures.failures:
        rows.add_row("S_h failures", str(figures.failures))
    if report.gaps:
        rows.add_row("time without the source", f"{sum(gap['seconds'] for gap in report.gaps):.1f} s")
    return rows


def _overload(source: Source, fps: float | None) -> Overload | None:
    if source.live:
        return Overload.DROP_OLDEST
    # A file at its own speed needs no buffer: every frame is ready when its turn comes.
    return Overload.WAIT if fps is not None else None


def _writing(output: str | Path, source: Source, classes: Classes, *, constant: bool, audio: bool) -> Opened:
    overlay = Overlay(classes.names, classes.palette, source.size)
    sink = VideoSink(
        output,
        overlay.size,
        source.steady_fps if constant else source.fps,
        pixel_aspect=source.pixel_aspect,
        audio=source.audio if audio else None,
        constant=constant,
        live=source.live,
    )

    def close() -> None:
        sink.close()
        # That some sound can't be copied shows only when it is tried.
        if sink.notice and not said:
            say_on_stderr(sink.notice)
        if sink.replaced:
            say_on_stderr(f"segment: {output} was there before, and has been replaced")

    if said := sink.notice:
        say_on_stderr(said)
    return lambda frame, result: sink.write(overlay.draw(frame, result), result.time_s), close, sink.coded
