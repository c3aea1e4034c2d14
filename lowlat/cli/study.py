"""The command `lowlat study`, a thin shell over `lowlat.lab.study.study`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lowlat.cli.options import Device, Pixels, Size, pixels_of


def study(
    tables: Annotated[
        list[str] | None,
        typer.Argument(help="What to repeat: table1 to table4, figure1, ..., streaming, sources; all without any."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="A data set to study on, as in camvid:FOLDER or street:480x360,frames=120; repeatable."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="The weights for each --data: a shipped name, a file, or train, the default."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the page, study.json and pictures.")] = Path(
        "study"
    ),
    seeds: Annotated[
        int | None, typer.Option(help="How many times everything is trained; 0 for only what needs no training.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each training of a method, in place of its own number.")
    ] = None,
    base_steps: Annotated[
        int | None, typer.Option(help="Steps of training for each per-frame network of the study.")
    ] = None,
    clips: Annotated[list[str] | None, typer.Option("--clip", help="An unlabelled video; repeatable.")] = None,
    pixels: Pixels = None,
    size: Size = None,
    device: Device = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="A small study on the procedural street, in minutes.")] = False,
) -> None:
    """Repeat the paper's tables and figures; what an earlier run measured is kept."""
    from lowlat.lab.study import QUICK, QUICK_DATA, Settings
    from lowlat.lab.study import study as job

    if not quick and not data:
        raise ValueError("study: expected --data, or --quick for the procedural street; name a data set")
    given = {"seeds": seeds, "steps": steps, "base_steps": base_steps}
    given = {name: value for name, value in given.items() if value is not None}
    if pixels is not None or size is not None:
        given["pixels"] = pixels_of("study", pixels, size)
    settings = replace(QUICK if quick else Settings(), **given)
    found = job(
        tables or (),
        data=data or [QUICK_DATA],
        weights=weights or (),
        out=out,
        settings=settings,
        clips=clips or (),
        device=device,
        command=shlex.join(["lowlat", *sys.argv[1:]]),
        console=Console(stderr=True),
    )
    for row in found.checks:
        print(f"{'holds' if row['held'] else 'fails'}  {row['data']}: {row['claim']} {row['value']} ({row['bar']})")
    print(f"{out}/: README.md, study.json, pictures")
