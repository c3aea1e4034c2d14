"""The command `lowlat simulate`, a thin shell over `lowlat.jobs.simulate`."""

from __future__ import annotations

from typing import Annotated

import typer

from lowlat.cli.options import AsJson, Threshold, print_figures, print_json


def simulate(
    lower: Annotated[float, typer.Option(help="Cost of S_l in ms.")] = 61,
    higher: Annotated[float, typer.Option(help="Cost of S_h in ms.")] = 299,
    select: Annotated[float, typer.Option(help="Cost of the key frame decision in ms.")] = 20,
    propagate: Annotated[float, typer.Option(help="Cost of propagation in ms.")] = 38,
    policy: Annotated[
        str,
        typer.Option(help="When a frame becomes a key frame: per-frame, every, threshold, adaptive or accumulated."),
    ] = "every",
    interval: Annotated[
        float | None, typer.Option(help="How many frames apart key frames are, or are in the mean; 5 by default.")
    ] = None,
    threshold: Threshold = None,
    mode: Annotated[
        str | None,
        typer.Option(help="blocking or low-latency; by default blocking, or low-latency with a deferred decision."),
    ] = None,
    decision: Annotated[
        str | None,
        typer.Option(
            help="When key frames are decided: critical, the default of one video, or deferred, that of several."
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option(help="How many frames follow the first one; with --videos, of each video.")
    ] = 1000,
    videos: Annotated[
        int | None,
        typer.Option(help="Simulate this many videos on one device, in low-latency mode with deferred decisions."),
    ] = None,
    fps: Annotated[float, typer.Option(help="With --videos: frames a second of each video.")] = 10.0,
    parts: Annotated[int, typer.Option(help="With --videos: how many parts S_h has.")] = 25,
    batch: Annotated[int, typer.Option(help="With --videos: the most passes of S_h that run as one.")] = 1,
    more: Annotated[
        float, typer.Option(help="With --videos: the cost of each further frame of a batch, as a share of one alone.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Run a schedule under a simulated clock, from the costs of the stages."""
    options = {
        "lower": lower,
        "higher": higher,
        "select": select,
        "propagate": propagate,
        "policy": policy,
        "interval": interval,
        "threshold": threshold,
        "frames": frames,
    }
    if videos is not None:
        from lowlat.jobs.simulated_videos import simulate_videos

        if mode == "blocking" or decision == "critical":
            raise ValueError(
                f"simulate: expected low-latency mode and deferred decisions with --videos, got {mode or decision}; "
                "leave --mode and --decision out"
            )
        report = simulate_videos(videos, **options, fps=fps, parts=parts, batch=batch, more=more)
    else:
        from lowlat.jobs import simulate as job

        report = job.simulate(**options, mode=mode, decision=decision or "critical")
    if as_json:
        print_json(report.as_dict())
    else:
        print_figures(report.as_dict())
