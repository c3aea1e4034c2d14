"""Training of ``lite``: the base network, then propagation, then the selector. `lowlat train` is a shell over this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Generator

from lowlat import models
from lowlat.data.camvid import CamVid
from lowlat.data.pairs import ClipPairs, SimulatedPairs, read_clip
from lowlat.networks.video_network import VideoNetwork
from lowlat.propagation import build
from lowlat.train import base, methods, propagation, selector
from lowlat.train.loop import Recipe

STAGES = ("base", "propagation", "selector")
VIEWS = 2  # key frames drawn from each labelled image


def train(
    stage: str = "all",
    *,
    data: str | Path,
    out: str | Path,
    clips: Sequence[str | Path] = (),
    device: str = "cpu",
    seed: int = 0,
    steps: int | None = None,
    method: str = "adaptive-fusion",
) -> Path:
    """Train one stage or all of them on CamVid's train list; go on from wherever the last run in ``out`` stopped.

    A finished stage leaves ``<out>/<stage>.safetensors``, the whole network so far, and is not run again; an unfinished
    one goes on from its checkpoint ``<out>/<stage>.pt``. The log of losses is ``<out>/<stage>.jsonl``.

    Args:
        stage: ``"base"``, ``"propagation"``, ``"selector"`` or ``"all"``; each needs the one before it.
        clips: unlabelled videos; the trained base network labels them for the second stage.
        device: ``"cpu"``, ``"cuda"``, ...
        seed: of every random choice.
        steps: length of each stage trained, instead of its own.
        method: of propagation. Another than the network's own, or ``"all"``, is trained for comparison: it leaves
            ``<out>/propagation-<method>.safetensors``, see :func:`lowlat.train.methods.train_methods`.

    Returns:
        the file of weights of the last stage trained.

    Raises:
        ValueError: an unknown stage, no such data, or the stage before has not been trained.
    """
    if stage not in (*STAGES, "all"):
        raise ValueError(f"train: expected a stage among {', '.join(STAGES)} or all, got {stage!r}")
    if method != "adaptive-fusion":
        if stage != "propagation":
            raise ValueError(
                f"train: expected stage 'propagation' with method {method!r}, got {stage!r}; train it alone"
            )
        recipe = _changed(propagation.RECIPE, seed, steps)
        files = methods.train_for_comparison(method, data=data, out=out, clips=clips, device=device, recipe=recipe)
        return list(files.values())[-1]
    out = Path(out)
    wanted = STAGES if stage == "all" else (stage,)
    missing = [name for name in wanted if not (out / f"{name}.safetensors").is_file()]
    if not missing:
        return out / f"{wanted[-1]}.safetensors"
    labelled = CamVid(data, "train")
    torch.manual_seed(seed)

    def finish(network: VideoNetwork, name: str) -> None:
        models.save(network.cpu(), out / f"{name}.safetensors", "lite", stage=name, data="CamVid train")

    if "base" in missing:
        finish(base.train_base(labelled, out, _changed(base.RECIPE, seed, steps), device), "base")
    if missing == ["base"]:
        return out / "base.safetensors"

    before = out / f"{'base' if 'propagation' in missing else 'propagation'}.safetensors"
    if not before.is_file():
        raise ValueError(
            f"train: expected the stage before {missing[0]!r} in {out}, found no {before.name}; train it first"
        )
    network = models.load(before).to(device, memory_format=torch.channels_last)
    features = propagation.frozen_features(network, device)
    generator = Generator().manual_seed(seed)
    # Propagation lives on variety; the selector alone gets by with one view of each image.
    views = VIEWS if "propagation" in missing else 1
    simulated = SimulatedPairs(*labelled.load(), features, views=views, generator=generator)
    if "propagation" in missing:
        unlabelled = ClipPairs([scene for clip in clips for scene in read_clip(clip)], features)
        bank = methods.draw_bank(network, {"simulated": simulated, "clips": unlabelled}, generator, device=device)
        recipe = _changed(propagation.RECIPE, seed, steps)
        propagation.train_propagation("propagation", build(method, network), bank, out, recipe, device)
        finish(network, "propagation")
        network.to(device)
    if "selector" in missing:
        pairs = selector.DeviationPairs(simulated, features, generator)
        selector.train_selector(network, pairs, out, _changed(selector.RECIPE, seed, steps), device)
        finish(network, "selector")
    return out / f"{wanted[-1]}.safetensors"


def _changed(recipe: Recipe, seed: int, steps: int | None) -> Recipe:
    return replace(recipe, seed=seed, **({} if steps is None else {"steps": steps}))
