"""The command `lowlat train`, a thin shell over `lowlat.lab.train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lowlat.cli.options import Device


def train(
    stage: Annotated[str, typer.Argument(help="base, finetune, propagation, selector, all, or distill.")] = "all",
    data: Annotated[
        str | None, typer.Option(help="A labelled set: a folder, or as in camvid:FOLDER; not for distill.")
    ] = None,
    video: Annotated[
        list[str] | None, typer.Option(help="For distill: a video or a folder of images; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints and weights.")] = Path("runs"),
    init: Annotated[str | None, typer.Option(help="Weights to start from: a shipped network's name or a file.")] = None,
    validate: Annotated[
        str | None, typer.Option(help="A labelled set whose list val decides which weights are kept.")
    ] = None,
    clips: Annotated[
        list[Path] | None, typer.Option("--clip", help="For propagation: an unlabelled video; repeatable.")
    ] = None,
    method: Annotated[str, typer.Option(help="Of propagation, to compare with the network's own; or all.")] = (
        "adaptive-fusion"
    ),
    device: Device = "cpu",
    seed: Annotated[int | None, typer.Option(help="Seed of all randomness; 0 by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps, in place of the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples a step, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest, after warm-up.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Passes to divide the batch into, to save memory.")] = None,
    clip_gradient: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    average: Annotated[
        float | None, typer.Option(help="Decay of the average of weights, which is kept; 0 for none.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that draw batches ahead.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps between validations.")] = None,
    labels: Annotated[str, typer.Option(help="For distill: soft or hard.")] = "soft",
    temperature: Annotated[float, typer.Option(help="For distill, of soft labels.")] = 1.0,
    frames: Annotated[int, typer.Option(help="For distill: frames taken of each video at most.")] = 1500,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the logs for TensorBoard too.")] = False,
) -> None:
    """Train one stage, or all, or adapt the fast track to a video (distill); a stopped run goes on when run again."""
    from lowlat.jobs.progress import first_process
    from lowlat.lab.train import distill
    from lowlat.lab.train import train as job

    recipe = {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "precision": precision,
        "accumulate": accumulate,
        "clip": clip_gradient,
        "average": average,
        "workers": workers,
        "checkpoint_every": checkpoint_every,
        "validate_every": validate_every,
    }
    common = {"out": out, "device": device, "tensorboard": tensorboard, **recipe}
    if stage == "distill":
        given = {"--data": data, "--validate": validate, "--clip": clips}
        if wrong := [name for name, value in given.items() if value]:
            raise ValueError(f"train: expected --video alone with distill, got {', '.join(wrong)}; leave it out")
        if not video:
            raise ValueError("train: expected --video with distill, got none; give a video or a folder of images")
        report = distill(video, init=init or "lite", labels=labels, temperature=temperature, frames=frames, **common)
        result = json.dumps(report.as_dict(), indent=1)
    else:
        if video:
            raise ValueError(f"train: expected --video with distill only, got it with {stage!r}; see --clip")
        if data is None:
            raise ValueError("train: expected --data, got none; give a folder, or as in camvid:FOLDER")
        result = job(stage, data=data, init=init, validate=validate, clips=clips or [], method=method, **common)
    if first_process():
        print(result)
