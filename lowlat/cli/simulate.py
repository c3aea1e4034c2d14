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
    policy: Annotated[str, typer.Option(help="per-frame, every, threshold, adaptive or accumulated.")] = "every",
    interval: Annotated[
        float | None, typer.Option(help="Frames between key frames, or their mean; 5 by default.")
    ] = None,
    threshold: Threshold = None,
    mode: Annotated[
        str | None, typer.Option(help="blocking or low-latency; by default as the decision asks for.")
    ] = None,
    decision: Annotated[str, typer.Option(help="critical or deferred.")] = "critical",
    frames: Annotated[int, typer.Option(help="Frames after the first one.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Run a schedule under a simulated clock, from the costs of the stages."""
    from lowlat.jobs import simulate as job

    report = job.simulate(
        lower=lower,
        higher=higher,
        select=select,
        propagate=propagate,
        policy=policy,
        interval=interval,
        threshold=threshold,
        mode=mode,
        decision=decision,
        frames=frames,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        print_figures(report.as_dict())
