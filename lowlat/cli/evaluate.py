"""The command `lowlat evaluate`, a thin shell over `lowlat.lab.accuracy`."""

from __future__ import annotations

from typing import Annotated

import typer

from lowlat.cli.options import (
    AsJson,
    Device,
    Pixels,
    Size,
    Steady,
    Threshold,
    Weights,
    pixels_of,
    print_figures,
    print_json,
)


def evaluate(
    data: Annotated[
        str | None, typer.Option(help="A labelled set: a folder, or its kind and place, as in street:480x360,seed=0.")
    ] = None,
    video: Annotated[
        str | None, typer.Option(help="Any video, to measure how steady its labels are; it needs no labels of its own.")
    ] = None,
    weights: Weights = "lite",
    images: Annotated[
        bool, typer.Option(help="Whether to evaluate the network frame by frame on the list test of --data.")
    ] = True,
    no_video: Annotated[bool, typer.Option("--no-video", help="Leave out the labelled video of --data.")] = False,
    distances: Annotated[
        bool, typer.Option(help="Also give the accuracy at each distance from the key frame.")
    ] = False,
    policy: Annotated[
        str, typer.Option(help="When a frame becomes a key frame: every, threshold, adaptive or accumulated.")
    ] = "adaptive",
    interval: Annotated[
        float | None, typer.Option(help="Frames between key frames, or their mean on --data; by default 5.")
    ] = None,
    threshold: Threshold = None,
    delay: Annotated[
        int, typer.Option(help="How many frames after its launch S_h lands, in replay; 0 waits for it.")
    ] = 3,
    fps: Annotated[float | None, typer.Option(help="Also run live, at this many frames a second.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Use only this many frames of --video.")] = None,
    steady: Steady = False,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Measure a network's accuracy on labelled data, frame by frame and under a schedule, and on any video how steady
    its labels are: agreement with frame by frame, extra flicker, slivers."""
    from lowlat.lab.accuracy import evaluate as job

    report = job(
        data,
        weights,
        images=images,
        video=not no_video,
        distances=distances,
        clip=video,
        policy=policy,
        interval=interval,
        threshold=threshold,
        delay=delay,
        fps=fps,
        max_frames=max_frames,
        steady=steady,
        pixels=pixels_of("evaluate", pixels, size),
        device=device,
    )
    if as_json:
        print_json(report)
    else:
        print_figures(report)
