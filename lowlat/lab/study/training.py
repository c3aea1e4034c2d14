"""The trainings of the study: per-frame networks where none is given, methods and selectors from several seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open

from lowlat import models
from lowlat.lab.data.dataset import LabelledImages, digest, labelled_indices, spread
from lowlat.lab.data.open import open_dataset
from lowlat.lab.data.pairs import ClipPairs, Crops, Features, PairKind, VideoPairs, read_clip
from lowlat.lab.data.simulated import SimulatedPairs
from lowlat.lab.data.street import Street
from lowlat.lab.methods import OURS, weights
from lowlat.lab.methods.method import reset_parameters
from lowlat.lab.study.settings import Settings
from lowlat.lab.train import propagation, selector, train
from lowlat.lab.train.bank import Bank
from lowlat.lab.train.methods import SHARES, draw_bank, train_methods
from lowlat.lab.train.provenance import videos_digest
from lowlat.lab.train.recipe import Recipe
from lowlat.lab.train.recipes import DEFAULT, recipe_of
from lowlat.lab.weights import save
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.stages import working_size

STREET = "street"
"""The procedural street as a kind of pairs for other data; never in the mixture."""
LARGEST = 480 * 360  # pixels of a frame that is trained on as it is


class Training:
    """Trainings on one data set; every result is a file that is found again, every run goes on after a kill.

    Args:
        spec: the data set, whose list ``train`` is trained on.
        folder: where checkpoints and weights go.
        settings: how large the study is.
        clips: unlabelled videos.
        device: where everything is trained.
    """

    def __init__(
        self, spec: str, folder: Path, settings: Settings, clips: Sequence[str], device: str | torch.device = "cpu"
    ):
        self.spec, self.folder, self.settings, self.clips = spec, folder, settings, clips
        self.device = str(device)
        self._bank: tuple[Path, Bank] | None = None

    @cached_property
    def data(self) -> LabelledImages:
        return open_dataset(self.spec, "train")

    @cached_property
    def content(self) -> str:
        """A hash of the images and labels."""
        return digest(self.data)

    @cached_property
    def clips_content(self) -> str:
        """The names of the clips, each with a hash of its content."""
        return videos_digest(self.clips)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of pairs: the frames' own, unless they are large; the aspect is kept."""
        height, width = self.data.image(0).shape[-2:]
        return (height, width) if height * width <= LARGEST else working_size(height, width, LARGEST, 8)

    @property
    def crops(self) -> Crops:
        """The crops that pairs are made of: whole frames, where they are of one shape."""
        return Crops(self.size)

    def pair_sources(self) -> list[str]:
        """Return the names of the sources of pairs that there are.

        They are motion simulated on the labelled images, the labelled video, the procedural street, and unlabelled
        clips under the network's own labels.
        """
        there = {
            "simulated": True,
            "video": bool(self.data.videos),
            STREET: not isinstance(self.data, Street) and self.data.classes == Street.classes,
            "clips": bool(self.clips),
        }
        return [name for name, given in there.items() if given]

    def per_frame(self) -> Path:
        """Train the per-frame network and return its file of weights."""
        steps, batch = self.settings.base_steps, self.settings.batch
        folder = self._folder("base", steps=steps, batch=batch)
        train("base", data=self.spec, out=folder, device=self.device, steps=steps, batch=batch)
        fewer = None if steps is None else min(steps, recipe_of(DEFAULT, "finetune").steps)
        return train("finetune", data=self.spec, out=folder, device=self.device, steps=fewer, batch=batch)

    def method(self, per_frame: Path, name: str, seed: int, pair_source: str | None) -> Path:
        """Train a method on one source of pairs, or on all in `SHARES` that the data has, and return its file of
        weights."""
        folder = self._seed_folder(per_frame, seed, pair_source)
        path = folder / f"propagation-{name}.safetensors"
        if not path.is_file():
            network = models.load(per_frame).to(self.device)
            bank = self._pairs(network, folder, seed, pair_source)
            recipe = self._recipe(recipe_of(network.name, "propagation"), seed)
            train_methods([name], network, bank, folder, recipe=recipe, device=self.device)
        return path

    def network(self, per_frame: Path, seed: int) -> Path:
        """Train a fast track and selector around the per-frame network and return the file of the whole network."""
        folder = self._seed_folder(per_frame, seed, None)
        path = folder / "network.safetensors"
        if not path.is_file():
            network = models.load(per_frame).to(self.device)
            weights.load(self.method(per_frame, OURS, seed, None), network)
            torch.manual_seed(seed)
            reset_parameters(network.selector)
            features = propagation.frozen_features(network, self.device)
            recipe = self._recipe(recipe_of(network.name, "selector"), seed)
            count = min(self.settings.pairs, recipe.pairs)
            pairs = selector.DeviationPairs(self._simulated(features), features, count=count, seed=seed)
            selector.train_selector(network, pairs.one, folder, recipe, self.device)
            save(network, path, stage="selector", data=self.spec)
        return path

    def _recipe(self, recipe: Recipe, seed: int) -> Recipe:
        given = {"steps": self.settings.steps, "batch": self.settings.batch}
        return replace(recipe, seed=seed, **{name: value for name, value in given.items() if value is not None})

    def _pairs(self, network: VideoNetwork, folder: Path, seed: int, pair_source: str | None) -> Bank:
        """Return the pairs of a seed, the same for all its methods; only the last ones are kept in memory."""
        if self._bank is None or self._bank[0] != folder:
            self._bank = None
            features = propagation.frozen_features(network, self.device)
            names = [pair_source] if pair_source else [name for name in self.pair_sources() if name in SHARES]
            kinds = {"video" if name == STREET else name: self._kind(name, features) for name in names}
            bank = draw_bank(network, kinds, pairs=self.settings.pairs, seed=seed, device=self.device)
            self._bank = folder, bank
        return self._bank[1]

    def _kind(self, name: str, features: Features) -> PairKind:
        if name == "simulated":
            return self._simulated(features)
        if name == "clips":
            return ClipPairs([scene for clip in self.clips for scene in read_clip(clip, self.crops)], features)
        data = self.data if name == "video" else Street(size=self.size, split="train")
        return VideoPairs(data, features, self.crops)

    def _simulated(self, features: Features) -> SimulatedPairs:
        """Return pairs with simulated motion, from images spread evenly over the list."""
        chosen = spread(labelled_indices(self.data), self.settings.stills)
        return SimulatedPairs(self.data, chosen, features, self.crops)

    def _seed_folder(self, per_frame: Path, seed: int, pair_source: str | None) -> Path:
        """Return the folder of a training around the per-frame network of a file, whatever fast track it holds."""
        names = ("steps", "pairs", "batch", "stills")
        settings = {name: getattr(self.settings, name) for name in names}
        held = weights.fingerprint(models.load(per_frame))
        return self._folder(f"{pair_source or 'pairs'}-seed{seed}", base=held, clips=self.clips_content, **settings)

    def _folder(self, name: str, **inputs: object) -> Path:
        """Return the folder for results that depend on ``inputs`` and on the data: another one for other inputs."""
        key = json.dumps([self.content, {**inputs, **device_inputs(self.device)}], sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def device_inputs(device: str | torch.device) -> dict[str, str]:
    """Return the kind of device as an input, if it is not a CPU: figures depend on it, since sums are taken in another
    order there."""
    kind = torch.device(device).type
    return {} if kind == "cpu" else {"device": kind}


def about(path: Path) -> dict[str, str]:
    """Return the notes in a file of weights, by name."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}
