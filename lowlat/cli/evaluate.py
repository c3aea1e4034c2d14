"""The command `lowlat evaluate`, a thin shell over `lowlat.lab.accuracy`."""

from __future__ import annotations

from typing import Annotated

import typer

from lowlat.cli.options import AsJson, Device, Pixels, Size, Threshold, Weights, pixels_of, print_figures, print_json


def evaluate(
    data: Annotated[
        str | None, typer.Option(help="A folder, or a kind and its place, as in street:480x360,seed=0.")
    ] = None,
    video: Annotated[str | None, typer.Option(help="Any video, for how steady its labels are; needs none.")] = None,
    weights: Weights = "lite",
    images: Annotated[bool, typer.Option(help="Per frame on the test list.")] = True,
    no_video: Annotated[bool, typer.Option("--no-video", help="Without the labelled video of --data.")] = False,
    distances: Annotated[bool, typer.Option(help="By exact distance from the key frame.")] = False,
    policy: Annotated[str, typer.Option(help="every, threshold, adaptive or accumulated.")] = "adaptive",
    interval: Annotated[
        float | None, typer.Option(help="Frames between key frames, or their mean on --data; by default 5.")
    ] = None,
    threshold: Threshold = None,
    delay: Annotated[int, typer.Option(help="Frames until S_h lands, in replay; 0 waits for it.")] = 3,
    fps: Annotated[float | None, typer.Option(help="Run live too, at so many frames a second.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Use so many frames of --video.")] = None,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Accuracy on labelled data, per frame on its list test and on the video of its list val, and how steady labels
    are, there and on any video: agreement with frame by frame, extra flicker, slivers."""
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
        pixels=pixels_of("evaluate", pixels, size),
        device=device,
    )
    if as_json:
        print_json(report)
    else:
        print_figures(report)
