"""The command `lowlat batch`, a thin shell over `lowlat.jobs.batch`."""

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


def batch(
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEOS...", help="Files, folders of videos, or globs in quotes.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder in which each video gets a folder of its own.")
    ],
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The Ray cluster to run on; local starts Ray on this machine. By default it runs without Ray.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="How many videos are labelled at once; by default as many as there are cores or GPUs for."),
    ] = None,
    cores: Annotated[int, typer.Option(help="CPU cores of each worker.")] = 1,
    write: Annotated[
        str,
        typer.Option(
            help="What to write: label maps as rle (JSON lines), grey or palette (PNGs); or overlay, a video."
        ),
    ] = "rle",
    weights: Weights = "lite",
    policy: PolicyName = None,
    interval: Interval = None,
    threshold: Threshold = None,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    dtype: DType = None,
    max_frames: MaxFrames = None,
    steady: Steady = False,
    as_json: AsJson = False,
) -> None:
    """Label many recorded videos, on this machine or a Ray cluster; begun again, it goes on where it was."""
    from lowlat.jobs import batch as job

    report = job.batch(
        videos,
        output,
        ray=ray,
        workers=workers,
        cores=cores,
        write=write,
        weights=weights,
        policy=policy,
        interval=interval,
        threshold=threshold,
        pixels=pixels_of("batch", pixels, size),
        device=device,
        dtype=dtype,
        max_frames=max_frames,
        steady=steady,
        console=Console(stderr=True),
    )
    if as_json:
        print_json(report.as_dict())
    else:
        print_table(job.table(report))
    if report.interrupted:
        raise KeyboardInterrupt
    if words := job.failed_words(report):
        raise ValueError(words)
