"""The command `lowlat street`, a thin shell over `lowlat.lab.data.street.write`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lowlat.cli.options import size_of


def street(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder; or a video (.mp4, .mkv, .mov) to look at.")],
    frames: Annotated[int, typer.Option(help="How many frames, at 15 a second.")] = 150,
    size: Annotated[str, typer.Option(help="The size of the frames, as in 640x360.")] = "480x360",
    seed: Annotated[int, typer.Option(help="The seed of the streets; another seed gives other streets.")] = 0,
    split: Annotated[str, typer.Option(help="train, val or test, each with other streets.")] = "train",
) -> None:
    """Write a procedural street with exact labels and optical flow: video with ground truth for everyone."""
    from lowlat.lab.data.street.write import write_street

    width, height = size_of("street", size)
    write_street(out, frames=frames, size=(height, width), seed=seed, split=split, console=Console(stderr=True))
