"""The command `lowlat convert`, a thin shell over `lowlat.lab.convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowlat.cli.options import AsJson, Pixels, Size, pixels_of, print_figures, print_json


def convert(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The checkpoint: a ResNet-101 of torchvision or timm, or a PSPNet of mmsegmentation or semseg, "
            ".pth or .safetensors.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of weights to write, .safetensors.")],
    classes: Annotated[
        str | None,
        typer.Option(
            help="The names of the classes: cityscapes, camvid or a file classes.csv; by default as the checkpoint "
            "says."
        ),
    ] = None,
    pixels: Pixels = None,
    size: Size = None,
    half: Annotated[bool, typer.Option("--half", help="Keep convolutions in float16, which halves the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make weights of resnet101 from a public checkpoint; nothing in it is run."""
    from lowlat.lab.convert import convert as job

    report = job(checkpoint, output, classes=classes, pixels=pixels_of("convert", pixels, size), half=half).as_dict()
    if as_json:
        print_json(report)
    else:
        print_figures(report)
