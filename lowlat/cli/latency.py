"""The command `lowlat latency`, a thin shell over `lowlat.jobs.latency.measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lowlat.cli.options import Device, print_json, print_table, size_of


def latency(
    source: Annotated[str | None, typer.Argument(help="A video; by default a synthetic source.")] = None,
    network: Annotated[
        str,
        typer.Option(
            help="lite, resnet101 (the paper's, with random weights), a file of weights, or package.module:function."
        ),
    ] = "lite",
    size: Annotated[
        str | None,
        typer.Option(
            help="Size of the frames, as in 640x360, and the working size without --pixels; by default 480x360 for "
            "lite, 2048x1024 for resnet101, else the working size of the weights."
        ),
    ] = None,
    pixels: Annotated[
        int | None,
        typer.Option(help="Pixels of the working size, at which the network sees frames; by default all they have."),
    ] = None,
    frames: Annotated[int, typer.Option(help="How many frames are measured, after start-up.")] = 300,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second of the source; by default 6 on a CPU, 30 on a GPU.")
    ] = None,
    interval: Annotated[int, typer.Option(help="How many frames apart key frames are.")] = 5,
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option(help="The type of weights and features, of the baseline too: float32, bfloat16 or float16.")
    ] = "float32",
    isolation: Annotated[
        str | None,
        typer.Option(
            help="What keeps S_h out of a frame's way: priority, partition (on a GPU) or segment. By default priority "
            "on a GPU, segment on a CPU."
        ),
    ] = None,
    segments: Annotated[
        int | None, typer.Option(help="How many parts S_h has under the isolation segment on a GPU; 25 by default.")
    ] = None,
    sms: Annotated[
        int | None, typer.Option(help="Multiprocessors for S_h under the isolation partition; 32 by default.")
    ] = None,
    graphs: Annotated[bool, typer.Option(help="Whether to capture stages as CUDA graphs, on a GPU.")] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile stages by torch.compile.")] = False,
    channels_last: Annotated[bool, typer.Option(help="Whether features are in channels-last layout.")] = True,
    fold: Annotated[bool, typer.Option(help="Whether to fold batch norms into convolutions.")] = True,
    pointwise: Annotated[
        bool, typer.Option(help="Whether oneDNN computes 1x1 convolutions on one thread too, on a CPU.")
    ] = True,
    deadline: Annotated[
        float | None, typer.Option(help="The deadline in ms, to count misses; by default 1.2 x p99.")
    ] = None,
    baseline_frames: Annotated[int, typer.Option(help="How many frames the per-frame baseline is measured on.")] = 60,
    table_frames: Annotated[
        int, typer.Option(help="How many frames each other schedule of Table 1 is measured on; 0 leaves them out.")
    ] = 30,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for pictures, trace and report.")] = Path(
        "latency"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")] = False,
) -> None:
    """Measure the latency of every frame at a locked rate, beside the per-frame baseline of the same network."""
    from lowlat.jobs import latency as job
    from lowlat.jobs.latency.table import tables
    from lowlat.runtime.options import Options

    report = job.measure(
        network,
        source=source,
        size=size_of("latency", size),
        pixels=pixels,
        frames=frames,
        fps=fps,
        interval=interval,
        device=device,
        options=Options(dtype, channels_last, fold, pointwise, graphs, compiled),
        isolation=isolation,
        segments=segments,
        sms=sms,
        deadline_ms=deadline,
        baseline_frames=baseline_frames,
        table_frames=table_frames,
        out=out,
        console=Console(stderr=True),
    )
    if as_json:
        print_json(report.as_dict())
    else:
        for table in tables(report):
            print_table(table)
        print(f"{out}/report.html: the page of the run, for any browser")
        print(f"{out}/: histogram.png, timeline.png, trace.json (open it at ui.perfetto.dev), report.json")
    if report.interrupted:
        raise KeyboardInterrupt
