"""The command `lowlat evaluate`, a thin shell over `lowlat.lab.accuracy`."""

from __future__ import annotations

from typing import Annotated

import typer

from lowlat.cli.options import AsJson, Device, Pixels, Size, Threshold, Weights, pixels_of, print_figures, print_json


def evaluate(
    data: Annotated[str, typer.Option(help="A folder, or a kind and its place, as in street:480x360,seed=0.")],
    weights: Weights = "lite",
    images: Annotated[bool, typer.Option(help="Per frame on the test list.")] = True,
    video: Annotated[bool, typer.Option(help="The labelled video under a schedule, in replay.")] = True,
    distances: Annotated[bool, typer.Option(help="By exact distance from the key frame.")] = False,
    policy: Annotated[str, typer.Option(help="every, threshold, adaptive or accumulated.")] = "adaptive",
    interval: Annotated[float, typer.Option(help="Frames between key frames, or their mean.")] = 5,
    threshold: Threshold = None,
    delay: Annotated[int, typer.Option(help="Frames until S_h lands.")] = 3,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Accuracy on labelled data, at the working size: per frame on its list test, and on the video of its list val."""
    from lowlat.lab.accuracy import evaluate as job

    report = job(
        data,
        weights,
        images=images,
        video=video,
        distances=distances,
        policy=policy,
        interval=interval,
        threshold=threshold,
        delay=delay,
        pixels=pixels_of("evaluate", pixels, size),
        device=device,
    )
    if as_json:
        print_json(report)
    else:
        print_figures(report)
