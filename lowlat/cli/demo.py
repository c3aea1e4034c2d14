"""The command `lowlat demo`, a thin shell over `lowlat.jobs.demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lowlat.cli.options import (
    AsJson,
    Device,
    DType,
    Interval,
    MaxFrames,
    Pixels,
    PolicyName,
    Size,
    Steady,
    Threshold,
    Weights,
    pixels_of,
    print_json,
    print_table,
)


def demo(
    video: Annotated[str | None, typer.Argument(help="A video; by default the sample clip.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for videos, pictures and the report.")] = Path(
        "demo"
    ),
    fps: Annotated[float, typer.Option(help="The most frames a second of the low-latency run.")] = 5.0,
    weights: Weights = "lite",
    policy: PolicyName = None,
    interval: Interval = None,
    threshold: Threshold = None,
    device: Device = "cpu",
    dtype: DType = None,
    pixels: Pixels = None,
    size: Size = None,
    max_frames: MaxFrames = None,
    steady: Steady = False,
    as_json: AsJson = False,
) -> None:
    """Segment a clip frame by frame and with the low-latency schedule, and compare latencies and labels."""
    from lowlat.jobs import demo as job
    from lowlat.jobs.policies import choose_policy

    def show(report: job.DemoReport) -> None:
        if as_json:
            print_json(report.as_dict())
            return
        print_table(job.table(report))
        print(f"{out}/report.html: the page of the run, for any browser")
        print(f"{out}/: overlay.mp4, latency.png, trace.json (open it at ui.perfetto.dev), report.json")
        print(f"{out}/overlay.png: frame {report.median_frame}, that of median agreement")

    report = job.demo(
        video,
        out,
        weights=weights,
        policy=choose_policy(policy, interval, threshold),
        fps=fps,
        device=device,
        dtype=dtype,
        pixels=pixels_of("demo", pixels, size),
        max_frames=max_frames,
        steady=steady,
        on_failure=show,
        console=Console(stderr=True),
    )
    show(report)
