"""Training of any network: per-frame network, propagation, selector. `lowlat train` is a shell over this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowlat.lab.data.open import open_dataset
from lowlat.lab.methods import OURS
from lowlat.lab.notices import notice
from lowlat.lab.train import processes
from lowlat.lab.train.distillation import distill
from lowlat.lab.train.methods import check_trained, methods_of
from lowlat.lab.train.per_frame import check_labels
from lowlat.lab.train.recipe import Recipe, change
from lowlat.lab.train.recipes import DEFAULT, STAGES, check_pairs, check_used, plan_of
from lowlat.lab.train.records import check_tensorboard
from lowlat.lab.train.stages import Stages, stage_before
from lowlat.lab.train.start import check_pixels, name_of

__all__ = ["STAGES", "Recipe", "distill", "train"]


def train(
    stage: str = "all",
    *,
    data: str | Path,
    out: str | Path,
    network: str | None = None,
    clips: Sequence[str | Path] = (),
    init: str | Path | None = None,
    validate: str | Path | None = None,
    device: str = "cpu",
    method: str = OURS,
    pixels: int | str | None = "default",
    bank: str | Path | None = None,
    tensorboard: bool = False,
    **changes,
) -> Path:
    """Train one stage or all of them on a labelled set; go on from wherever the last run in ``out`` stopped.

    A finished stage leaves ``<out>/<stage>.safetensors``, the whole network so far, and is not run again; an unfinished
    one goes on from its checkpoint ``<out>/<stage>.pt``. The log is ``<out>/<stage>.jsonl``. Under `torchrun` the
    processes share the work; the first one writes.

    Args:
        stage: ``"base"``, ``"finetune"``, ``"propagation"``, ``"selector"`` or ``"all"``, which are those in the
            network's plan (`lowlat.lab.train.recipes`); each needs the one before.
        data: a labelled set as :func:`lowlat.lab.data.open.open_dataset` takes it; its list ``train``.
        network: what to train, a name that `lowlat.models.build` takes; by default the network of the weights that the
            first stage starts from, else ``"lite"``.
        clips: unlabelled videos, for stages whose pairs are made of any.
        init: weights that the first stage asked for starts from: a shipped network's name or a file.
        validate: a labelled set, of the data's classes, whose list ``val`` decides which weights of the per-frame
            network are kept.
        device: ``"cpu"``, ``"cuda"``, ...
        method: by default the network's own fast track. Another one, or ``"all"``, is trained for comparison and leaves
            ``<out>/propagation-<method>.safetensors``, see :func:`lowlat.lab.train.methods.train_methods`.
        pixels: the working size, kept with the weights; None for the frames' own size; by default that of the weights
            started from, else the plan's or the data's own, whichever is less.
        bank: a folder for the pairs that are drawn once; by default ``out``.
        tensorboard: whether to write TensorBoard's files beside the logs.
        changes: fields of :class:`Recipe` in place of each stage's own; None leaves one as it is.

    Returns:
        the file of weights of the last stage trained.

    Raises:
        ValueError: an unknown stage or network, no such data, nothing labelled in it, the stage before has not been
            trained, weights of another network or other classes, options of no use, or ``out`` holds a run begun with
            other data or options.
        OSError: a file can't be written.
        ImportError: TensorBoard is asked for and not installed.
        RuntimeError: another process failed.
    """
    if stage not in (*STAGES, "all"):
        raise ValueError(f"train: expected a stage among {', '.join(STAGES)} or all, got {stage!r}; name one of them")
    if method != OURS:
        _check_comparison(method, stage, validate)
    check_pixels(pixels)
    check_used(stage, {"validate": validate, "clips": clips, "bank": bank, **changes})
    out = Path(out)
    # Numbers of no sense are told of finished stages too, though nothing is done with them.
    change(next(iter(plan_of(network or DEFAULT).recipes.values())), **changes)
    starts = {
        "network": network,
        "pixels": pixels,
        "clips": clips,
        "bank": Path(bank or out),
        "device": device,
        "tensorboard": tensorboard,
    }
    wanted = _wanted(stage, network, init, out)
    missing = [name for name in wanted if method != OURS or not (out / f"{name}.safetensors").is_file()]
    if not missing:
        notice(f"train: {', '.join(wanted)} in {out} had been trained already; to train anew, give another --out")
        return out / f"{wanted[-1]}.safetensors"
    start = init
    if missing[0] != STAGES[0] and (init is None or missing[0] != wanted[0]):
        start = stage_before(missing[0], out, network)
    if clips or (bank and method == OURS):
        recipes = plan_of(name_of(network, start, DEFAULT)).recipes
        check_pairs({name: change(recipes[name], **changes) for name in wanted}, clips, bank)
    if tensorboard:
        check_tensorboard()
    with processes.joined(device) as device:
        labelled = open_dataset(data, "train")
        check_labels(labelled)
        stages = Stages(labelled, out, **{**starts, "device": device}, changes=changes)
        if method != OURS:
            return list(stages.compare(method, init).values())[-1]
        held_out = stages.held_out(validate) if validate else None
        for name in missing:
            stages.run(name, init if name == wanted[0] else None, held_out)
    return out / f"{wanted[-1]}.safetensors"


def _wanted(stage: str, network: str | None, init: str | Path | None, out: Path) -> tuple[str, ...]:
    """Return the stages to run, in order: with ``"all"`` those of the network's plan."""
    if stage != "all":
        return (stage,)
    done = out / f"{STAGES[0]}.safetensors"
    return plan_of(name_of(network, init or (done if done.is_file() else None), DEFAULT)).order


def _check_comparison(method: str, stage: str, validate: str | Path | None) -> None:
    """``ValueError`` where another method than the network's own can't be trained."""
    if stage != "propagation":
        raise ValueError(f"train: expected stage 'propagation' with method {method!r}, got {stage!r}; train it alone")
    check_trained(methods_of(method))
    if validate:
        raise ValueError(
            f"train: expected no set to validate on with method {method!r}, got {str(validate)!r}; leave it out"
        )
