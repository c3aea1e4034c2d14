"""The job behind `lowlat latency`: frames come at a locked rate, and the time to each frame's labels is measured."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console

from lowlat import models
from lowlat.jobs.latency.figures import Figures, stage_medians, summarise
from lowlat.jobs.latency.paper import PaperTables
from lowlat.jobs.latency.runs import WARM_UP, Bench, Metronome, Recorded, record_run, source_frames
from lowlat.jobs.live import Advance, device_name
from lowlat.jobs.progress import progress_bar
from lowlat.jobs.report.page import write_run
from lowlat.jobs.report.record import TRACE_FRAMES, frame_row, make_report, weights_digest
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import Engine
from lowlat.runtime.options import DEFAULT, Options
from lowlat.runtime.stages import working_size
from lowlat.schedule import Every, PerFrame, Schedule
from lowlat.video.address import shown
from lowlat.video.files import prepare_folder
from lowlat.video.latency_plot import histogram_figure, timeline_figure, write_figure
from lowlat.video.trace import write_trace

SIZES = {"lite": (480, 360), "resnet101": (2048, 1024)}
"""The width and height of frames that each network is measured at, for `resnet101` the paper's; another network is
measured at its working size."""
FPS = {"cpu": 6.0, "cuda": 30.0}
"""Rates that the fast track holds, so that no frame waits for the one before it."""


@dataclass(frozen=True)
class LatencyReport:
    """What :func:`measure` found: the run, its figures, and their ratios to the per-frame baseline. Times in ms."""

    network: str
    device: str
    dtype: str
    isolation: str
    notice: str
    source: str
    width: int
    height: int
    working_size: str
    """At what size the network saw the frames."""
    fps: float
    interval: int
    baseline_frames: int
    baseline_p50_ms: float
    baseline_p99_ms: float
    startup_ms: float
    run: Figures
    dropped: int
    interrupted: bool
    p50_over_baseline: float
    max_over_baseline: float
    control_p99_over_p50: float | None
    """p99 over p50 of a fixed computation of 10 ms on one thread, run between the frames on a CPU."""
    memory_growth_mb: float
    """Most in use in the second half of the measured frames less that in the first; of the device where there is one,
    else of the process."""
    tables: PaperTables

    def as_dict(self) -> dict[str, object]:
        """Plain values, flat but for stages and tables."""
        report = asdict(self)
        del report["tables"], report["run"]
        return {**report, **asdict(self.run), **self.tables.as_dict()}


def measure(
    network: str = "lite",
    *,
    source: str | Path | None = None,
    size: tuple[int, int] | None = None,
    pixels: int | None = None,
    frames: int = 300,
    fps: float | None = None,
    interval: int = 5,
    device: str = "cpu",
    options: Options = DEFAULT,
    isolation: str | None = None,
    segments: int | None = None,
    sms: int | None = None,
    deadline_ms: float | None = None,
    baseline_frames: int = 60,
    table_frames: int = 30,
    out: str | Path | None = None,
    console: Console | None = None,
) -> LatencyReport:
    """Measure the latency of every frame under the low-latency schedule, beside the per-frame baseline of the same
    network in the same process.

    Frames arrive at a locked rate whether anybody is ready for them or not. A frame that waits has the wait in its
    latency; a frame that finds another one waiting takes its place. A key frame comes every `interval` frames, and the
    decision is measured on every frame.

    Args:
        network: "lite" (trained weights), "resnet101" (the paper's, with random weights, which cost the same), a file
            of weights, or an adopted network as in "package.module:function".
        source: a video file, or the address of one; by default a synthetic source, which costs nothing.
        size: ``(width, height)`` of the frames; by default as `SIZES` says, else about the network's working size, 4 to
            3.
        pixels: the pixels of the working size; None has the network see frames as they are, their sides brought to
            multiples of its `multiple`.
        frames: how many frames are measured, after start-up.
        fps: frames a second; by default 6 on a CPU, 30 on a GPU.
        interval: frames between key frames, 1 to 10.
        device: "cpu", "cuda" or "cuda:1".
        options: precision, and how else the network is made ready.
        isolation: what keeps S_h out of a frame's way: "priority", "segment" or, on a GPU, "partition"; by default
            "priority" on a GPU and "segment" on a CPU.
        segments, sms: how many parts S_h has under "segment", and multiprocessors under "partition", on a GPU.
        deadline_ms: the deadline in ms, by default 1.2 x p99.
        baseline_frames: how many frames the baseline is measured on, as fast as they go.
        table_frames: how many frames each further schedule of the paper's Table 1 is measured on; 0 leaves them out.
        out: a folder for ``histogram.png``, ``timeline.png``, ``trace.json``, ``report.json`` and the page
            ``report.html``; None for none.
        console: where progress is shown; None for nowhere.

    Raises:
        ValueError: unknown words or impossible numbers.
        SourceError, SinkError: bad input, or no such output folder.
        RuntimeError: no such device, or too little memory on it.
    """
    _check(frames, baseline_frames, table_frames, interval, fps, deadline_ms)
    if network not in SIZES and ":" not in network and not Path(network).suffix and not Path(network).is_file():
        raise ValueError(
            f"latency: expected --network to be one of {', '.join(SIZES)}, a file of weights or "
            f"package.module:function, got {network!r}"
        )
    built = _network(network)
    width, height = size or SIZES.get(network) or _working_size(built)
    if pixels is None and (width % built.multiple or height % built.multiple):
        # Not every network takes sides of any length.
        pixels = width * height
    if source is not None:
        # Imported here, so that a synthetic run needs no decoder.
        from lowlat.jobs.cameras import refuse_live

        refuse_live(
            "latency", str(source), "the baseline and each schedule read it from its start, at a rate of their own"
        )
    parts = {"segments": segments, "sms": sms}
    bench = Bench(built, device, options=options, isolation=isolation, pixels=pixels, **parts)
    fps = FPS["cpu" if bench.on_cpu else "cuda"] if fps is None else fps
    folder = None if out is None else Path(out)
    if folder is not None:
        prepare_folder("latency", folder)
    with progress_bar(console or Console(quiet=True), auto_refresh=False) as progress:

        def record(schedule: Schedule, count: int, name: str, **live: object) -> tuple[Recorded, Engine]:
            advance = Advance(progress, name, count + WARM_UP + 1)
            with source_frames(source, (width, height)) as coming, bench.engine(schedule) as engine:
                chosen = itertools.islice(coming, count + WARM_UP + 1)
                recorded = record_run(engine, chosen, advance, bench.memory_mb, bench.control, **live)
            advance.draw()
            return recorded, engine

        whole, _ = record(Schedule(PerFrame(), "blocking"), baseline_frames, "frame by frame, whole network")
        rest = _schedules(interval) if table_frames else {}
        tables = {name: record(schedule, table_frames, name)[0] for name, schedule in rest.items()}
        main = Schedule(Metronome(interval), decision="deferred")
        live, engine = record(main, frames, f"low-latency, {fps:g} fps", fps=fps)
    if not whole.results or not live.results:
        raise ValueError(
            f"latency: expected a source of more than {WARM_UP + 1} frames, which are start-up, got one of "
            f"{max(len(whole.results), len(live.results)) + WARM_UP + 1} or fewer; name a longer one"
        )
    baseline = [result.latency_ms for result in whole.results]
    run = summarise(live.results, live.spans, deadline_ms)
    middle = median(baseline)
    report = LatencyReport(
        network=shown(network),
        device="cpu" if bench.on_cpu else device_name(bench.device),
        dtype=options.dtype,
        isolation=engine.isolation,
        notice=engine.notice,
        source="synthetic" if source is None else shown(str(source)),
        width=width,
        height=height,
        working_size=bench.working_size(width, height),
        fps=fps,
        interval=interval,
        baseline_frames=len(baseline),
        baseline_p50_ms=round(middle, 4),
        baseline_p99_ms=round(float(np.percentile(baseline, 99)), 4),
        startup_ms=round(live.startup_ms, 4),
        run=run,
        dropped=live.dropped,
        interrupted=live.interrupted,
        p50_over_baseline=round(run.p50_ms / middle, 4),
        max_over_baseline=round(run.max_ms / middle, 4),
        control_p99_over_p50=live.control_p99_over_p50,
        memory_growth_mb=round(live.growth_mb, 3),
        tables=_tables(whole, tables, live),
    )
    if folder is not None:
        settings = {
            "network": network,
            "weights_sha256": weights_digest(network),
            "source": report.source,
            "size": f"{width}x{height}",
            "pixels": pixels,
            "frames": frames,
            "fps": fps,
            "interval": interval,
            "device": device,
            **asdict(options),
            "isolation": report.isolation,
            "segments": segments,
            "sms": sms,
            "deadline_ms": deadline_ms,
            "baseline_frames": baseline_frames,
            "table_frames": table_frames,
        }
        _write(folder, report, settings, live, baseline)
    return report


def _check(
    frames: int,
    baseline_frames: int,
    table_frames: int,
    interval: int,
    fps: float | None,
    deadline_ms: float | None,
) -> None:
    for name, value in (("frames", frames), ("baseline-frames", baseline_frames), ("interval", interval)):
        if value < 1:
            raise ValueError(f"latency: expected --{name} of at least 1, got {value}; leave it out for the default")
    if table_frames < 0:
        raise ValueError(f"latency: expected --table-frames of 0 (no tables) or more, got {table_frames}; leave it out")
    if interval > 10:
        raise ValueError(f"latency: expected --interval of at most 10 frames, the age bound, got {interval}; lower it")
    for name, value in (("fps", fps), ("deadline", deadline_ms)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"latency: expected --{name} above 0, got {value!r}; leave it out for the default")


def _network(name: str) -> VideoNetwork:
    if name != "resnet101":
        return models.load(name)
    torch.manual_seed(0)
    return models.build(name).eval()


def _working_size(network: VideoNetwork) -> tuple[int, int]:
    height, width = working_size(360, 480, network.pixels or 360 * 480, network.multiple)
    return width, height


def _schedules(interval: int) -> dict[str, Schedule]:
    """Return the schedules of Table 1 that are neither the baseline nor the run itself."""
    return {
        "fixed, every 5 frames": Schedule(Every(5), "blocking"),
        "adaptive": Schedule(Metronome(interval), "blocking"),
    }


def _tables(whole: Recorded, others: dict[str, Recorded], live: Recorded) -> PaperTables:
    def averages(recorded: Recorded) -> tuple[float, float] | None:
        latencies = [result.latency_ms - result.wait_ms for result in recorded.results]
        return (round(float(np.mean(latencies)), 4), round(max(latencies), 4)) if latencies else None

    runs = {"per frame": whole, **others, "adaptive, low-latency": live}
    schedules = {name: averages(recorded) for name, recorded in runs.items() if recorded.results}
    # Table 3 is of modules by themselves: in the blocking schedules nothing runs beside them.
    times = stage_medians(others["adaptive"].spans) if "adaptive" in others else stage_medians(live.spans)
    times = {**stage_medians(whole.spans), **times}
    stages = {
        "S_l": times.get("S_l: lower"),
        "S_h": times.get("S_h: higher"),
        "selector": times.get("propagation: select"),
        "propagation": times.get("propagation: propagate"),
    }
    return PaperTables({name: ms for name, ms in stages.items() if ms is not None}, schedules)


def _write(
    folder: Path, report: LatencyReport, settings: dict[str, object], live: Recorded, baseline: list[float]
) -> None:
    title = f"{report.network}, {report.width}x{report.height}, {report.dtype}, {report.device}, {report.isolation}"
    write_figure(folder / "histogram.png", histogram_figure(live.results, baseline, title))
    timeline = timeline_figure(live.results, report.baseline_p50_ms, report.run.deadline_ms, title)
    write_figure(folder / "timeline.png", timeline)
    first = live.results[-1].index - TRACE_FRAMES
    write_trace(folder / "trace.json", [span for span in live.spans if span.index > first], title)
    rows = [frame_row(result) for result in live.results]
    files = {"trace": "trace.json", "settings": settings}
    write_run(folder, make_report("latency", report.as_dict(), rows, "per_frame", **files))
