"""The command `lowlat train`, a thin shell over `lowlat.lab.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowlat.cli.options import AsJson, Device, Pixels, Size, pixels_of, print_figures, print_json


def train(
    stage: Annotated[
        str, typer.Argument(help="The stage: base, finetune, propagation, selector, all of these, or distill.")
    ] = "all",
    network: Annotated[
        str | None,
        typer.Option(help="The network: lite, by default, resnet101, or an adopted one as in package.module:function."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="The labelled set: a folder, or its kind and place as in camvid:FOLDER; not for distill."),
    ] = None,
    video: Annotated[
        list[str] | None, typer.Option(help="For distill: a video or a folder of images; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for checkpoints and weights.")] = Path("runs"),
    init: Annotated[str | None, typer.Option(help="Weights to start from: a shipped network's name or a file.")] = None,
    validate: Annotated[
        str | None, typer.Option(help="A labelled set whose list val decides which weights are kept.")
    ] = None,
    clips: Annotated[
        list[Path] | None, typer.Option("--clip", help="For propagation: an unlabelled video; repeatable.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="The method of propagation to train, for comparison with the network's own; or all.")
    ] = ("adaptive-fusion"),
    device: Device = "cpu",
    pixels: Pixels = None,
    size: Size = None,
    crop: Annotated[
        int | None, typer.Option(help="The side in pixels of the square crops that are trained on.")
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            help="How many pairs are drawn once and kept, for propagation and selector; 0 draws them anew each step."
        ),
    ] = None,
    between: Annotated[
        int | None, typer.Option(help="How many frames lie between the two of a pair, for propagation.")
    ] = None,
    soft: Annotated[
        float | None, typer.Option(help="The weight of the per-frame network's scores in the loss of propagation.")
    ] = None,
    bank: Annotated[Path | None, typer.Option(help="The folder for kept pairs, in place of --out.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of all randomness; 0 by default.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="How many steps to train for, in place of the recipe's number.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="How many examples a step has, over all processes.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The largest learning rate, which follows warm-up.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="The type of computation: float32, bfloat16 or float16.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="How many parts the batch is computed in, to save memory.")
    ] = None,
    clip_gradient: Annotated[float | None, typer.Option(help="The largest norm of the gradient.")] = None,
    average: Annotated[
        float | None, typer.Option(help="The decay of the moving average of weights, which is kept; 0 for none.")
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option("--recompute", help="Compute activations again in place of keeping them, to save memory."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many threads draw batches ahead.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="How many steps lie between checkpoints.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="How many steps lie between validations.")] = None,
    labels: Annotated[str, typer.Option(help="For distill: soft labels, which are scores, or hard ones.")] = "soft",
    temperature: Annotated[float, typer.Option(help="For distill: the temperature of soft labels.")] = 1.0,
    frames: Annotated[int, typer.Option(help="For distill: the most frames taken of each video.")] = 1500,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the logs for TensorBoard too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print estimates of what a step of each stage takes, and train nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train one stage, or all, or teach the fast track on videos (distill); a stopped run goes on when run again."""
    from lowlat.jobs.progress import first_process
    from lowlat.lab.train import STAGES, distill
    from lowlat.lab.train import train as job

    recipe = {
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "precision": precision,
        "accumulate": accumulate,
        "crop": crop,
        "pairs": pairs,
        "between": between,
        "soft": soft,
        "recompute": recompute,
        "clip": clip_gradient,
        "average": average,
        "workers": workers,
        "checkpoint_every": checkpoint_every,
        "validate_every": validate_every,
    }
    if stage not in (*STAGES, "all", "distill"):
        raise ValueError(
            f"train: expected a stage among {', '.join(STAGES)}, all or distill, got {stage!r}; name one of them"
        )
    where = {"network": network, "init": init, "pixels": pixels_of("train", pixels, size)}
    if dry_run:
        from lowlat.lab.methods import OURS
        from lowlat.lab.train.estimate import dry_run as estimated

        if method != OURS:
            raise ValueError(
                f"train: expected --dry-run with the network's own method, got --method {method}; leave one out"
            )
        report = estimated(stage, data=data, **where, **recipe)
        print_json(report) if as_json else print_figures(report)
        return
    common = {"out": out, "device": device, "tensorboard": tensorboard, **where, **recipe}
    if stage == "distill":
        given = {"--data": data, "--validate": validate, "--clip": clips, "--bank": bank}
        if wrong := [name for name, value in given.items() if value]:
            raise ValueError(f"train: expected --video alone with distill, got {', '.join(wrong)}; leave it out")
        if not video:
            raise ValueError("train: expected --video with distill, got none; give a video or a folder of images")
        report = distill(video, labels=labels, temperature=temperature, frames=frames, **common)
        told = report.as_dict()
    else:
        if video:
            raise ValueError(f"train: expected --video with distill only, got it with {stage!r}; see --clip")
        if (labels, temperature, frames) != ("soft", 1.0, 1500):
            raise ValueError(
                f"train: expected --labels, --temperature and --frames with distill only, got one with {stage!r}; "
                "leave it out"
            )
        if data is None:
            raise ValueError("train: expected --data, got none; give a folder, or as in camvid:FOLDER")
        path = job(stage, data=data, validate=validate, clips=clips or [], method=method, bank=bank, **common)
        told = {"weights": str(path)}
    if not first_process():
        return
    if as_json or stage == "distill":
        print_json(told)
    else:
        print(told["weights"])
