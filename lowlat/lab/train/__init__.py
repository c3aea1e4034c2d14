"""Training of ``lite``: per-frame network, propagation, selector. `lowlat train` is a shell over this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator

from lowlat.lab.data.dataset import LabelledImages, digest, labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.data.pairs import ClipPairs, SimulatedPairs, read_clip
from lowlat.lab.methods import OURS, build
from lowlat.lab.train import base, methods, processes, propagation, selector
from lowlat.lab.train.distillation import distill
from lowlat.lab.train.provenance import videos_digest, weights_digest
from lowlat.lab.train.recipe import Recipe, change
from lowlat.lab.weights import save
from lowlat.networks.video_network import VideoNetwork

__all__ = ["STAGES", "Recipe", "distill", "train"]

STAGES = ("base", "finetune", "propagation", "selector")
# The two stages of the per-frame network differ in these.
BASE_OPTIONS = {
    "base": {"output_stride": 16, "balanced": True},
    "finetune": {"output_stride": 8, "balanced": False},
}
VIEWS = 2  # key frames drawn from each labelled image
PAIRS = 2000  # pairs of frames that propagation is trained on


def train(
    stage: str = "all",
    *,
    data: str | Path,
    out: str | Path,
    clips: Sequence[str | Path] = (),
    init: str | Path | None = None,
    validate: str | Path | None = None,
    device: str = "cpu",
    method: str = OURS,
    tensorboard: bool = False,
    **changes,
) -> Path:
    """Train one stage or all of them on a labelled set; go on from wherever the last run in ``out`` stopped.

    A finished stage leaves ``<out>/<stage>.safetensors``, the whole network so far, and is not run again; an unfinished
    one goes on from its checkpoint ``<out>/<stage>.pt``. The log is ``<out>/<stage>.jsonl``. Under `torchrun` the
    processes share the work; the first one writes.

    Args:
        stage: ``"base"``, ``"finetune"``, ``"propagation"``, ``"selector"`` or ``"all"``; each needs the one before.
        data: a labelled set as :func:`lowlat.lab.data.open.open_dataset` takes it; its list ``train``.
        clips: unlabelled videos; the trained base network labels them for the second stage.
        init: weights that the first stage asked for starts from: a shipped network's name or a file.
        validate: a labelled set, of the data's classes, whose list ``val`` decides which weights of the base network
            are kept.
        device: ``"cpu"``, ``"cuda"``, ...
        method: by default the network's own fast track. Another one, or ``"all"``, is trained for comparison and leaves
            ``<out>/propagation-<method>.safetensors``, see :func:`lowlat.lab.train.methods.train_methods`.
        tensorboard: whether to write TensorBoard's files beside the logs.
        changes: fields of :class:`Recipe` in place of each stage's own; None leaves one as it is.

    Returns:
        the file of weights of the last stage trained.

    Raises:
        ValueError: an unknown stage, no such data, nothing labelled in it, the stage before has not been trained, or
            ``out`` holds a run begun with other data or options.
        RuntimeError: another process failed.
    """
    if stage not in (*STAGES, "all"):
        raise ValueError(f"train: expected a stage among {', '.join(STAGES)} or all, got {stage!r}")
    if method != OURS:
        if stage != "propagation":
            raise ValueError(
                f"train: expected stage 'propagation' with method {method!r}, got {stage!r}; train it alone"
            )
        if validate:
            raise ValueError(
                f"train: expected no set to validate on with method {method!r}, got {str(validate)!r}; leave it out"
            )
        options = {"recipe": change(propagation.RECIPE, **changes), "tensorboard": tensorboard}
        with processes.joined(device) as device:
            files = methods.train_for_comparison(
                method, data=data, out=out, clips=clips, init=init, device=device, **options
            )
        return list(files.values())[-1]
    out = Path(out)
    wanted = STAGES if stage == "all" else (stage,)
    missing = [name for name in wanted if not (out / f"{name}.safetensors").is_file()]
    if missing:
        with processes.joined(device) as device:
            labelled = open_dataset(data, "train")
            held_out = _held_out(validate, labelled) if validate else None
            stages = _Stages(labelled, out, device, tensorboard, changes)
            for name in missing:
                stages.run(name, clips, init if name == wanted[0] else None, held_out)
    return out / f"{wanted[-1]}.safetensors"


class _Stages:
    """The stages of a training, each started from the file that the one before left, in one run or in several."""

    def __init__(self, labelled: LabelledImages, out: Path, device: str, tensorboard: bool, changes: dict):
        self.labelled, self.out, self.device = labelled, out, device
        self.options = {"tensorboard": tensorboard}
        recipes = base.RECIPE, base.FINETUNE, propagation.RECIPE, selector.RECIPE
        self.recipes = {name: change(recipe, **changes) for name, recipe in zip(STAGES, recipes, strict=True)}

    def run(self, name: str, clips, init: str | Path | None, held_out: LabelledImages | None) -> None:
        torch.manual_seed(self.recipes[name].seed)
        if name in BASE_OPTIONS:
            start = init if name == "base" else init or self.before(name)
            self.base(name, start, held_out)
            return
        start = init or self.before(name)
        network = propagation.load_base(start, len(self.labelled.classes), self.device)
        starts_from = {"data": digest(self.labelled), "start": weights_digest(start)}
        features = propagation.frozen_features(network, self.device)
        generator = Generator().manual_seed(self.recipes[name].seed)
        # Propagation learns from many views of an image; for the selector one view is enough.
        views = VIEWS if name == "propagation" else 1
        indices = labelled_indices(self.labelled)
        simulated = SimulatedPairs(self.labelled, indices, features, views=views, generator=generator)
        arguments = (self.out, self.recipes[name], self.device)
        if name == "propagation":
            unlabelled = ClipPairs([scene for clip in clips for scene in read_clip(clip)], features)
            sources = {"simulated": simulated, "clips": unlabelled}
            bank = methods.draw_bank(network, sources, generator, pairs=PAIRS, device=self.device)
            own = build(OURS, network)
            fresh = init is None
            starts_from |= {"fresh": str(fresh), "clips": videos_digest(clips)}
            propagation.train_propagation(
                name, own, bank, *arguments, fresh=fresh, starts_from=starts_from, **self.options
            )
        else:
            pairs = selector.DeviationPairs(simulated, features, generator)
            selector.train_selector(network, pairs, *arguments, starts_from=starts_from, **self.options)
        self.finish(network, name)

    def before(self, name: str) -> Path:
        """The file of weights that the stage before ``name`` has left; ``ValueError`` where there is none."""
        path = self.out / f"{STAGES[STAGES.index(name) - 1]}.safetensors"
        if not path.is_file():
            raise ValueError(
                f"train: expected the stage before {name!r} in {self.out}, found no {path.name}; "
                "train it first, or give its weights by init"
            )
        return path

    def base(self, name: str, start: str | Path | None, held_out: LabelledImages | None) -> None:
        arguments = (self.labelled, self.out, self.recipes[name], self.device)
        options = {"name": name, "start": start, "held_out": held_out, **BASE_OPTIONS[name]}
        network, best = base.train_base(*arguments, **options, **self.options)
        told = {}
        if best:
            told["validation"] = f"mIoU {best.figure:.2f} on {_name(held_out)} after {best.steps} steps"
        self.finish(network, name, **told)

    def finish(self, network: VideoNetwork, name: str, **told: str) -> None:
        if processes.rank() == 0:
            path = self.out / f"{name}.safetensors"
            save(network, path, stage=name, data=_name(self.labelled), **told)
        processes.wait()


def _held_out(spec: str | Path, labelled: LabelledImages) -> LabelledImages:
    """The set that decides which weights are kept; ``ValueError`` where it has no labels or other classes."""
    data = open_dataset(spec, "val")
    labelled_indices(data)
    if data.classes != labelled.classes:
        raise ValueError(
            f"train: expected the data's classes ({', '.join(labelled.classes)}) in the set to validate on, "
            f"got {', '.join(data.classes)}; give one of the same classes"
        )
    return data


def _name(data: LabelledImages) -> str:
    return f"{type(data).__name__} {data.split}"
