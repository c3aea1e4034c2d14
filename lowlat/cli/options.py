"""The options that several commands share, and how commands print their results."""

from __future__ import annotations

import json
import sys
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Weights = Annotated[str, typer.Option(help="A shipped network's name, a file of weights, or package.module:function.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")]
MaxFrames = Annotated[int | None, typer.Option(help="Stop after this many frames.")]
Interval = Annotated[float | None, typer.Option(help="How many frames apart key frames are, for the policy every.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="The value above which a frame becomes a key frame, for the policies threshold, adaptive and accumulated."
    ),
]
Steady = Annotated[
    bool,
    typer.Option("--steady", help="Keep a pixel's label until another class is clearly ahead: less flicker."),
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        help="When a frame becomes a key frame: per-frame, every, threshold, adaptive or accumulated; by "
        "default adaptive, at the weights' threshold."
    ),
]
Device = Annotated[str, typer.Option(help="Where to run: cpu, or a GPU as in cuda or cuda:1.")]
DType = Annotated[
    str | None, typer.Option(help="The type of weights and features: float32, by default, bfloat16 or float16.")
]

Pixels = Annotated[
    int | None,
    typer.Option(
        help="Pixels of the working size, at which the network sees a frame with its aspect kept; by default as the "
        "weights say, 0 for the frame's own size."
    ),
]
Size = Annotated[str | None, typer.Option(help="The working size as in 640x360: so many pixels, in place of --pixels.")]

printed: ContextVar[bool] = ContextVar("a report is printed", default=False)
"""Whether the command that is running has printed its object for `--json`."""


def size_of(command: str, words: str | None, option: str = "--size") -> tuple[int, int] | None:
    """Return ``(width, height)`` from the words that a command line gives with an option, as in 640x360."""
    if words is None:
        return None
    sides = words.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"{command}: expected {option} as in 640x360, got {words!r}; give width x height")
    return int(sides[0]), int(sides[1])


def pixels_of(command: str, pixels: int | None, size: str | None) -> int | str | None:
    """Return the pixels of the working size that ``--pixels`` or ``--size`` ask for, as `lowlat.prepare` takes them:
    "default" without either, None for frames as they are.

    Raises:
        ValueError: both are given, or one is no size.
    """
    sides = size_of(command, size)
    if pixels is not None and sides is not None:
        raise ValueError(
            f"{command}: expected --pixels or --size, got --pixels {pixels} and --size {size}; leave one out, both say "
            "how many pixels the network sees"
        )
    if pixels is not None and pixels < 0:
        raise ValueError(
            f"{command}: expected --pixels of at least 1, or 0 for the frame's own size, got {pixels}; leave it out"
        )
    if sides is not None:
        return sides[0] * sides[1]
    return "default" if pixels is None else pixels or None


def print_json(report: dict[str, Any], *, stderr: bool = False) -> None:
    """Print a command's object for `--json`."""
    printed.set(True)
    print(json.dumps(report, indent=1, allow_nan=False), file=sys.stderr if stderr else sys.stdout, flush=True)


def print_table(table: Table, *, stderr: bool = False) -> None:
    """Print a table below its title. The title is a line of its own, so that a path in it is not broken at the table's
    width."""
    console = Console(stderr=stderr)
    title, table.title = table.title, None
    if title is not None:
        console.print(title, style="table.title", markup=False, highlight=False, soft_wrap=True)
    console.print(table)


def print_figures(report: dict[str, Any], indent: str = "") -> None:
    """Print names and values, one a line; nested ones are indented."""
    width = max((len(name) for name in report), default=0)
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            print_figures(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{indent}{name}")
            for row in value:
                print(f"{indent}  " + "  ".join(f"{key} {cell}" for key, cell in row.items()))
        else:
            words = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            print(f"{indent}{name:<{width}}  {words}")
