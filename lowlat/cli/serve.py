"""The command `lowlat serve`, a thin shell over `lowlat.serve.running`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowlat.cli.options import Device, DType, Interval, Pixels, PolicyName, Size, Steady, Threshold, Weights, pixels_of


def serve(
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SOURCE",
            help="A video, a folder of images, a camera's number or an address; may be given several times.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; one that other machines reach needs a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8000,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token that every request must show.")] = None,
    allow_source: Annotated[
        list[str] | None,
        typer.Option(
            help="A source that requests may open, an address that theirs begin with, or a folder; none by default. "
            "May be given several times.",
        ),
    ] = None,
    max_videos: Annotated[int, typer.Option(min=1, help="The most videos at once.")] = 8,
    max_bytes: Annotated[int, typer.Option(min=1, help="The most bytes of a request's body.")] = 8 << 20,
    fps: Annotated[
        float, typer.Option(help="The most frames a second of each source; two cores take 5, a GPU more.")
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Don't begin recordings again when they end.")] = False,
    stall: Annotated[
        float, typer.Option(metavar="SECONDS", help="After this time without a frame a live source counts as lost.")
    ] = 10.0,
    log: Annotated[
        str | None, typer.Option(help="The log's form on standard error: text, the default on a terminal, or json.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The Ray cluster to label on; local starts Ray on this machine. By default it labels without Ray.",
        ),
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="With --ray: how many hubs there are, each on a GPU or on --cores.")
    ] = 1,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="With --ray: the most hubs; there are as many as the videos need.")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, help="With --ray: CPU cores of each hub.")] = 1,
    weights: Weights = "lite",
    policy: PolicyName = None,
    interval: Interval = None,
    threshold: Threshold = None,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    dtype: DType = None,
    steady: Steady = False,
) -> None:
    """Label live videos, with a page to watch them and results over HTTP and WebSockets, until Ctrl-C or SIGTERM."""
    from lowlat.jobs.cameras import check_patience
    from lowlat.jobs.policies import choose_policy
    from lowlat.serve.running import serve as run
    from lowlat.serve.service import Settings

    check_patience("serve", 0.0, stall)
    if not 0 < fps < float("inf"):
        raise ValueError(f"serve: expected --fps above 0, got {fps:g}; the default is 5")
    most = replicas if max_replicas is None else max_replicas
    if most < replicas:
        raise ValueError(f"serve: expected --max-replicas of at least {replicas}, as --replicas says, got {most}")
    more = {}
    if ray is not None:
        from lowlat.serve.many.replicas import Replicas
        from lowlat.serve.many.running import serve_many

        run, more = serve_many, {"ray": ray, "replicas": Replicas(replicas, most, cores, int(device != "cpu"))}
    elif (most, cores) != (1, 1):
        raise ValueError("serve: expected --ray beside --replicas, --max-replicas or --cores, got none; leave them out")
    run(
        source or (),
        **more,
        host=host,
        port=port,
        token_file=token_file,
        allow=allow_source or (),
        most_bytes=max_bytes,
        settings=Settings(max_videos, fps, stall, not once),
        log=log,
        weights=weights,
        policy=choose_policy(policy, interval, threshold),
        pixels=pixels_of("serve", pixels, size),
        device=device,
        steady=steady,
        **({} if dtype is None else {"dtype": dtype}),
    )
