"""The command `lowlat segment`, a thin shell over `lowlat.jobs.segment`."""

from __future__ import annotations

import sys
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
    size_of,
)


def segment(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A video, a folder of images, img%03d.png, a glob in quotes, a camera's number, an address, or - for "
            "standard input.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A video (.mp4, .mkv, .mov), which replaces one that is there, a folder for label maps, or - for "
            "standard output.",
        ),
    ],
    weights: Weights = "lite",
    policy: PolicyName = None,
    interval: Interval = None,
    threshold: Threshold = None,
    mode: Annotated[
        str, typer.Option(help="Whether S_h runs in the background (low-latency) or key frames wait for it (blocking).")
    ] = "low-latency",
    decision: Annotated[
        str | None,
        typer.Option(
            help="Whether key frames are decided after the labels (deferred) or before (critical); by default "
            "deferred where the mode allows."
        ),
    ] = None,
    overload: Annotated[
        str | None,
        typer.Option(
            help="What happens to a frame that comes too early: drop-oldest (default for live sources), "
            "drop-newest or wait (default for files)."
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second: a file's frames come at this rate, and a folder of images has it."),
    ] = None,
    constant_rate: Annotated[
        bool,
        typer.Option(
            "--constant-rate", help="Write a video at a constant rate rather than with the times of the source."
        ),
    ] = False,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave out the sound of a video file.")] = False,
    resize: Annotated[
        str | None,
        typer.Option(
            help="Scale frames to this size first, as in 640x360. Label maps have it too; a video is taller by its "
            "legend."
        ),
    ] = None,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    dtype: DType = None,
    max_frames: MaxFrames = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Label maps as palette (PNGs, by default), grey (PNGs of plain indices) or rle (JSON lines)."
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            help="How label maps are called: by index or stem; by default by stem for images, by index for videos."
        ),
    ] = None,
    pipe_format: Annotated[
        str | None,
        typer.Option("--format", help="With -o -: mkv (by default), a video, or jsonl, label maps as JSON lines."),
    ] = None,
    steady: Steady = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The folder for a report of the run: report.html, report.json, trace.json."
        ),
    ] = None,
    reconnect: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Wait so long for a live source that was lost, by default for ever; 0 ends the run. If given, also "
            "for one that is not there at first.",
        ),
    ] = None,
    stall: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="After this time without a frame a live source counts as lost; by default 10."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Segment any source live; write a video with the segmentation over it, or a folder of label maps."""
    from lowlat.jobs import segment as job

    # If results go to standard output, nothing else does.
    piped = str(output) == "-"
    broken: list[job.SegmentReport] = []
    # A live source that is not there at first is waited for only if asked, since most likely its address is wrong.
    waiting = {"reconnect_s": reconnect, "wait_s": reconnect, "stall_s": stall}
    try:
        found = job.segment(
            source,
            output,
            weights=weights,
            policy=policy,
            interval=interval,
            threshold=threshold,
            mode=mode,
            decision=decision,
            overload=overload,
            fps=fps,
            constant_rate=constant_rate,
            audio=not no_audio,
            resize=size_of("segment", resize, "--resize"),
            pixels=pixels_of("segment", pixels, size),
            device=device,
            dtype=dtype,
            max_frames=max_frames,
            labels=labels,
            names=names,
            pipe_format=pipe_format,
            steady=steady,
            report_dir=report,
            on_failure=broken.append,
            console=Console(stderr=True),
            **{name: seconds for name, seconds in waiting.items() if seconds is not None},
        )
    except (Exception, KeyboardInterrupt) as error:
        if as_json:
            print_json((broken or [job.failed(source, output, error)])[0].as_dict(), stderr=piped)
        raise
    if as_json:
        print_json(found.as_dict(), stderr=piped)
    else:
        print_table(job.table(found), stderr=piped)
        if report is not None:
            print(
                f"{report}/report.html: the page of the run, for any browser", file=sys.stderr if piped else sys.stdout
            )
    if words := job.missing_words(found):
        print(f"lowlat: {words}", file=sys.stderr)
    if found.interrupted:
        raise KeyboardInterrupt
