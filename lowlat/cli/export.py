"""The command `lowlat export`, a thin shell over `lowlat.jobs.export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lowlat.cli.options import AsJson, Weights, print_figures, print_json, size_of


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    size: Annotated[str, typer.Option(help="The size of the frames that the files will take, as in 640x360.")],
    weights: Weights = "lite",
    form: Annotated[
        str, typer.Option("--format", help="The format: onnx, aoti (AOTInductor packages) or both.")
    ] = "both",
    as_json: AsJson = False,
) -> None:
    """Write a network's stages for other programs: as ONNX files, as AOTInductor packages, with a manifest."""
    from lowlat.jobs.export import export as job

    report = job(weights, output, size=size_of("export", size), form=form, console=Console(stderr=True))
    if report.notice:
        print(f"lowlat: {report.notice}", file=sys.stderr)
    if as_json:
        print_json(report.as_dict())
    else:
        print_figures(report.as_dict())
