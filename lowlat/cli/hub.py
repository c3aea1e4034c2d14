"""The command `lowlat hub`, a thin shell over `lowlat.jobs.latency.videos.measure_videos`."""

from __future__ import annotations

from typing import Annotated

import typer

from lowlat.cli.options import AsJson, Device, Pixels, pixels_of, print_figures, print_json, size_of


def hub(
    source: Annotated[str | None, typer.Argument(help="A video; by default a synthetic source.")] = None,
    videos: Annotated[
        list[int], typer.Option(help="How many videos to measure at once; may be given several times.")
    ] = (2, 4),
    network: Annotated[
        str, typer.Option(help="A shipped network's name, a file of weights, or package.module:function.")
    ] = "lite",
    size: Annotated[str, typer.Option(help="The size of the frames, as in 640x360.")] = "480x360",
    pixels: Pixels = None,
    frames: Annotated[int, typer.Option(help="How many frames of each video are measured, after start-up.")] = 200,
    fps: Annotated[float, typer.Option(help="Frames a second of each video.")] = 3.0,
    interval: Annotated[int, typer.Option(help="How many frames apart key frames are.")] = 5,
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option(help="The type of weights and features: float32, bfloat16 or float16.")
    ] = "float32",
    cores: Annotated[int | None, typer.Option(help="CPU cores to use; by default all at hand.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure several videos on one device, and compare each with one video alone."""
    from lowlat.jobs.latency.videos import measure_videos

    report = measure_videos(
        videos,
        network=network,
        device=device,
        dtype=dtype,
        frames=frames,
        fps=fps,
        interval=interval,
        source=source,
        size=size_of("hub", size),
        pixels=pixels_of("hub", pixels, None),
        cores=cores,
    ).as_dict()
    if as_json:
        print_json(report)
        return
    runs = report.pop("runs")
    print_figures(report)
    for run in runs:
        each = list(run.pop("each"))
        print_figures({**run, "each": each})
