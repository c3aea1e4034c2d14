"""The options that several commands share, and how they print what they found."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

Weights = Annotated[str, typer.Option(help="A shipped network's name, or a file of weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on stdout.")]
MaxFrames = Annotated[int | None, typer.Option(help="Stop after so many frames.")]
Interval = Annotated[float | None, typer.Option(help="Frames between key frames, for the policy every.")]
Threshold = Annotated[float | None, typer.Option(help="For the policies threshold, adaptive and accumulated.")]
PolicyName = Annotated[
    str | None,
    typer.Option(help="per-frame, every, threshold, adaptive or accumulated; by default adaptive, as the weights say."),
]
Device = Annotated[str, typer.Option(help="Where to run: cpu, or a GPU as in cuda or cuda:1.")]
DType = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16, of weights and features; by default float32.")
]


def size_of(command: str, words: str | None) -> tuple[int, int] | None:
    """``(width, height)`` from a command line's words."""
    if words is None:
        return None
    sides = words.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"{command}: expected --size as in 640x360, got {words!r}")
    return int(sides[0]), int(sides[1])


def print_json(report: dict[str, Any], *, stderr: bool = False) -> None:
    print(json.dumps(report, indent=1, allow_nan=False), file=sys.stderr if stderr else sys.stdout)


def print_figures(report: dict[str, Any], indent: str = "") -> None:
    """Names and values, one a line; what is nested is indented."""
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
