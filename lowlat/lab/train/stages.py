"""The stages of a training, each started from the file that the one before left, in one run or in several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from lowlat import models
from lowlat.classes import Classes
from lowlat.jobs.untrained import check_trained
from lowlat.lab.data.dataset import LabelledImages, digest, labelled_indices
from lowlat.lab.data.open import open_dataset
from lowlat.lab.methods import OURS
from lowlat.lab.methods import build as build_method
from lowlat.lab.train import per_frame, processes, propagation, selector
from lowlat.lab.train.finish import leave
from lowlat.lab.train.methods import PAIRS, draw_bank, methods_of, train_methods
from lowlat.lab.train.pairing import crops_of, kinds_of
from lowlat.lab.train.provenance import videos_digest, weights_digest
from lowlat.lab.train.recipe import Recipe, change
from lowlat.lab.train.recipes import DEFAULT, PER_FRAME, STAGES, plan_of
from lowlat.lab.train.start import STARTS, build, load_per_frame, load_start, name_of
from lowlat.lab.weights import BETWEEN_KEY_FRAMES
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.words import counted
from lowlat.video.files import prepare_folder


class Stages:
    """The stages on one labelled set, with what they share.

    Args:
        labelled: the list that is trained on.
        out: the folder of weights, checkpoints and logs.
        network, pixels, clips, device, tensorboard, changes: see `lowlat.lab.train.train`.
        bank: the folder of pairs drawn once.
    """

    def __init__(
        self,
        labelled: LabelledImages,
        out: Path,
        *,
        network: str | None = None,
        pixels: int | str | None = "default",
        clips: Sequence[str | Path] = (),
        bank: Path | None = None,
        device: str = "cpu",
        tensorboard: bool = False,
        changes: dict,
    ):
        self.labelled, self.out, self.device = labelled, out, device
        self.legend = Classes(labelled.classes, labelled.palette)
        self.network, self.pixels, self.clips, self.bank = network, pixels, clips, bank or out
        self.changes, self.options = changes, {"tensorboard": tensorboard}

    def run(self, name: str, init: str | Path | None, held_out: LabelledImages | None) -> None:
        """Run one stage, from ``init`` or else from what the stage before has left."""
        start = init if name == STAGES[0] else init or stage_before(name, self.out, self.network)
        network_name = name_of(self.network, start, DEFAULT)
        recipe = self.recipe(network_name, name)
        torch.manual_seed(recipe.seed)
        if name in PER_FRAME:
            self._per_frame(name, network_name, recipe, start, held_out)
        else:
            self._on_pairs(name, recipe, start, fresh=init is None)

    def recipe(self, network: str, stage: str) -> Recipe:
        """Return the recipe of a stage with the changes asked for; ``ValueError`` where its batch can't be divided
        so."""
        recipe = change(plan_of(network).recipes[stage], **self.changes)
        if stage in PER_FRAME:
            per_frame.check_examples(stage, recipe)
        recipe.share(processes.world())
        return recipe

    def held_out(self, spec: str | Path) -> LabelledImages:
        """Return the set that decides which weights are kept; ``ValueError`` where it has no labels or other
        classes."""
        data = open_dataset(spec, "val")
        per_frame.check_labels(data)
        if data.classes != self.labelled.classes:
            raise ValueError(
                f"train: expected the data's classes ({', '.join(self.labelled.classes)}) in the set to validate on, "
                f"got {', '.join(data.classes)}; give one of the same classes"
            )
        return data

    def _per_frame(
        self, name: str, network_name: str, recipe: Recipe, start: str | Path | None, held_out: LabelledImages | None
    ) -> None:
        plan = plan_of(network_name)
        given = None if start is None else models.load(start)
        network = build(network_name, self.legend, recipe, getattr(given, "options", None))
        if given is None:
            STARTS[plan.start](network)
            network.untrained = BETWEEN_KEY_FRAMES
        else:
            load_start(network, given, start)
        # A backbone alone, as `lowlat convert` makes of ImageNet's weights, has been trained at no working size.
        fresh = given is None or "head" in given.untrained
        network.pixels = self._working_pixels(network if given is None else given, plan.frame, fresh=fresh)
        prepare_folder("train", self.out)
        best = per_frame.train_per_frame(
            name,
            network,
            self.labelled,
            self.out,
            recipe,
            self.device,
            held_out=held_out,
            starts_from={
                "network": network_name,
                "pixels": str(network.pixels),
                "data": digest(self.labelled),
                "start": plan.start if start is None else weights_digest(start),
                "validate": "none" if held_out is None else digest(held_out),
            },
            **self.options,
        )
        told = {}
        if best:
            told["validation"] = (
                f"mIoU {best.figure:.2f} on {name_of_data(held_out)} after {counted(best.steps, 'step')}"
            )
        self.finish(network, name, **told)

    def _working_pixels(self, network: VideoNetwork, frame: tuple[int, int], *, fresh: bool) -> int | None:
        """Return the working size that a per-frame stage is trained at: the one asked for, else that of the weights,
        else the plan's, but no more than the data's own."""
        if self.pixels != "default":
            return self.pixels
        if not fresh or ":" in network.name:
            return network.pixels
        height, width = self.labelled.image(labelled_indices(self.labelled)[0]).shape[-2:]
        return min(frame[0] * frame[1], height * width)

    def _on_pairs(self, name: str, recipe: Recipe, start: str | Path, *, fresh: bool) -> None:
        network = self._per_frame_network(start)
        prepare_folder("train", self.out)
        pairs = recipe.kept_pairs()
        bank, about = self._bank(name, network, start, pairs, recipe)
        if name == "propagation":
            drawn = self._drawn(network, pairs, recipe, bank, about)
            own = build_method(OURS, network)
            options = {"fresh": fresh, "starts_from": {**about, "fresh": str(fresh)}, **self.options}
            propagation.train_propagation(name, own, drawn, self.out, recipe, self.device, **options)
        else:
            kinds, features = self._kinds(network, recipe)
            kind = next(iter(kinds.values()))
            options = {"count": pairs, "seed": recipe.seed, "folder": bank, "about": about}
            drawn = selector.DeviationPairs(kind, features, **options)
            selector.train_selector(
                network, drawn.one, self.out, recipe, self.device, starts_from=about, **self.options
            )
        self.finish(network, name)
        drawn.remove()

    def compare(self, method: str, init: str | Path | None) -> dict[str, Path]:
        """Train one method, or all, around ``init`` or the file of the stage before, for comparison."""
        start = init or stage_before("propagation", self.out, self.network)
        recipe = self.recipe(name_of(self.network, start, DEFAULT), "propagation")
        network = self._per_frame_network(start)
        pairs = min(self.changes.get("pairs") or PAIRS, recipe.steps * recipe.batch)
        bank, about = self._bank("methods", network, start, pairs, recipe)
        drawn = self._drawn(network, pairs, recipe, bank, about)
        options = {"recipe": recipe, "device": self.device, "starts_from": about, **self.options}
        files = train_methods(methods_of(method), network, drawn, self.out, **options)
        drawn.remove()
        return files

    def _per_frame_network(self, start: str | Path) -> VideoNetwork:
        network = load_per_frame(start, self.legend, self.device)
        check_trained("train", network, fast_track=False)
        if self.pixels != "default":
            network.pixels = self.pixels
        return network

    def _kinds(self, network: VideoNetwork, recipe: Recipe):
        features = propagation.frozen_features(network, self.device, recipe.precision)
        crops = crops_of(network, self.labelled, recipe.crop)
        return kinds_of(recipe.kinds, self.labelled, self.clips, features, crops), features

    def _drawn(self, network: VideoNetwork, pairs: int, recipe: Recipe, folder: Path, about: dict[str, str]):
        """Return the pairs that propagation is trained on."""
        kinds, features = self._kinds(network, recipe)
        options = {"pairs": pairs, "seed": recipe.seed, "device": self.device, "folder": folder, "about": about}
        teacher = features if recipe.soft else None
        return draw_bank(network, kinds, between=recipe.between, teacher=teacher, **options)

    def _bank(self, name: str, network: VideoNetwork, start: str | Path, pairs: int, recipe: Recipe):
        """Return the folder of a stage's pairs, and all that they hang on."""
        about = {
            "network": network.name,
            "pixels": str(network.pixels),
            "data": digest(self.labelled),
            "start": weights_digest(start),
            "clips": videos_digest(self.clips),
            "kinds": ", ".join(recipe.kinds),
            "pairs": str(pairs),
            "crop": str(recipe.crop),
            "precision": recipe.precision,
            "between": str(recipe.between),
            "teacher": str(recipe.soft > 0),
        }
        return self.bank / f"{name}.pairs", about

    def finish(self, network: VideoNetwork, name: str, **told: str) -> None:
        """Leave a stage's weights."""
        leave(network, self.out / f"{name}.safetensors", stage=name, data=name_of_data(self.labelled), **told)


def stage_before(name: str, out: Path, network: str | None) -> Path:
    """Return the file of weights that the stage before ``name`` has left in ``out``; ``ValueError`` where there is
    none.

    A stage that the network's plan leaves out comes before where it has been run all the same.
    """
    paths = {stage: out / f"{stage}.safetensors" for stage in STAGES[: STAGES.index(name)]}
    done = [path for path in paths.values() if path.is_file()]
    order = plan_of(name_of(network, done[-1] if done else None, DEFAULT)).order
    for stage, path in reversed(paths.items()):
        if path.is_file():
            return path
        if stage in order:
            raise ValueError(
                f"train: expected the stage before {name!r} in {out}, found no {path.name}; "
                "train it first, or give its weights by --init"
            )
    raise ValueError(f"train: expected a stage before {name!r}, got the first one")


def name_of_data(data: LabelledImages) -> str:
    """Return what the notes in a file of weights call a list of a data set."""
    return f"{type(data).__name__} {data.split}"
