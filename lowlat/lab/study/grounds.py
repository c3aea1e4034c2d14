"""A ground of the study: one data set, the per-frame network trained for it, and what is trained around that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lowlat import models
from lowlat.lab.data.dataset import LabelledImages, check_classes, digest
from lowlat.lab.data.open import open_dataset, recognise
from lowlat.lab.methods import METHODS, Method, build
from lowlat.lab.methods import weights as method_weights
from lowlat.lab.recorded import LabelledVideo, check_video
from lowlat.lab.study.consistency import Motion, motions
from lowlat.lab.study.parts import Parts
from lowlat.lab.study.settings import Settings
from lowlat.lab.study.training import Training, about, device_inputs
from lowlat.networks.video_network import VideoNetwork

TRAIN = "train"
"""The word given in place of weights where the study is to train the per-frame network too."""


class Which(NamedTuple):
    """A network with its fast track and selector: the one given, or one trained by the study from a seed."""

    seed: int | None

    @property
    def name(self) -> str:
        return "given" if self.seed is None else "trained"


class Ground:
    """A ground of the study. It opens data, trains networks and records the video when they are first asked for.

    Args:
        spec: the data set, as `open_dataset` takes it.
        weights: the per-frame network: a shipped network's name, a file, or ``"train"``.
        parts: the measurements that are kept; what is trained lies in the folder ``.training`` beside it.
        settings: how large the study is.
        clips: unlabelled videos, for pairs labelled by the network itself.
        device: where networks are trained and their accuracy is measured.

    Raises:
        ValueError: no such data, no labelled video in its list ``val``, no such weights, or weights of other classes.
    """

    given = Which(None)

    def __init__(
        self,
        spec: str,
        weights: str,
        parts: Parts,
        settings: Settings,
        clips: Sequence[str] = (),
        *,
        device: str | torch.device = "cpu",
    ):
        kind, colon, _ = spec.partition(":")
        self.name = kind if colon else recognise(Path(spec))
        self.spec, self.settings, self.clips, self.device = spec, settings, tuple(clips), device
        self._given = None if weights == TRAIN else models.find(weights)
        data = self.images("val")
        check_video("study", data)
        if self._given is not None:
            check_classes(
                "study",
                models.load(self._given),
                data.classes,
                weights="the weights",
                mend="weights trained on this data",
            )
        self.parts = parts
        self._recorded: tuple[Which, LabelledVideo] | None = None
        self._contents: dict[str, str] = {}

    @cached_property
    def has_flow(self) -> bool:
        """Whether the data knows its exact motion."""
        return hasattr(self.images("val"), "flow")

    @cached_property
    def tested(self) -> bool:
        """Whether the list ``test`` has labels."""
        data = self.images("test")
        return any(map(data.labelled, range(len(data))))

    @cached_property
    def complete(self) -> bool:
        """Whether the weights given hold a trained fast track and selector, not the per-frame network alone."""
        return self._given is not None and not models.load(self._given).untrained

    @cached_property
    def architecture(self) -> str:
        """The network's name, among `lowlat.models.MODELS`."""
        return "lite" if self._given is None else about(self._given).get("network", "lite")

    @property
    def timed(self) -> str:
        """The network whose times are measured, as `lowlat.jobs.latency.measure` takes it.

        Weights of `lite` all cost the same; another network is timed as it was given.
        """
        return "lite" if self.architecture == "lite" else str(self._given)

    @cached_property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` of the frames."""
        height, width = self.images("val").image(0).shape[-2:]
        return width, height

    @cached_property
    def motion(self) -> list[Motion]:
        """The exact motion of the labelled video, from its second frame on."""
        data = self.images("val")
        return motions(data, self._frames(data))

    @cached_property
    def training(self) -> Training:
        return Training(self.spec, self.parts.folder / ".training" / self.name, self.settings, self.clips, self.device)

    def whiches(self) -> list[Which]:
        """Return the networks that schedules are run with."""
        first = [self.given] if self.complete else []
        return first + [Which(seed) for seed in range(self.settings.seeds)]

    def images(self, split: str) -> LabelledImages:
        data = open_dataset(self.spec, split)
        return First(data, self.settings.images) if split == "test" and self.settings.images else data

    def network(self, which: Which) -> VideoNetwork:
        """Return the per-frame network, or one with its fast track and selector trained from a seed."""
        per_frame = self._given or self.training.per_frame()
        network = models.load(per_frame if which.seed is None else self.training.network(per_frame, which.seed))
        if self.settings.pixels != "default":
            network.pixels = self.settings.pixels
        return network

    def video(self, which: Which) -> LabelledVideo:
        """Return the list ``val`` as one video, cuts and all, recorded by a network; only the last one stays in
        memory."""
        if self._recorded is None or self._recorded[0] != which:
            self._recorded = None
            data = self.images("val")
            self._recorded = which, LabelledVideo(self.network(which), data, self._frames(data), device=self.device)
        return self._recorded[1]

    def _frames(self, data: LabelledImages) -> range:
        return range(len(data))[: self.settings.frames]

    def pair_sources(self) -> list[str]:
        """Return the names of the sources of pairs that there are to train on."""
        return self.training.pair_sources()

    def methods(self) -> list[str]:
        """Return the names of the methods that this data allows."""
        return [name for name, kind in METHODS.items() if self.has_flow or not kind.needs_flow]

    def method(self, name: str, seed: int | None, pair_source: str | None = None) -> Method:
        """Return a method around the per-frame network, trained from a seed if there is anything to train."""
        network = self.network(self.given)
        # Flows over several frames are composed of the same ones again and again.
        flow = lru_cache(maxsize=32)(self.images("val").flow) if METHODS[name].needs_flow else None
        if seed is None:
            return build(name, network, flow=flow)
        per_frame = self._given or self.training.per_frame()
        return method_weights.load(self.training.method(per_frame, name, seed, pair_source), network)

    @cached_property
    def weights(self) -> Any:
        """A key of the per-frame network: a hash of its weights, or all that its training depends on."""
        if self._given is None:
            names = ("base_steps", "batch")
            return {"train": self.training.content, **{name: getattr(self.settings, name) for name in names}}
        return method_weights.fingerprint(models.load(self._given))

    @cached_property
    def _whole(self) -> str | None:
        """A hash of the network given, its fast track and selector included; None if it is trained."""
        return None if self._given is None else method_weights.fingerprint(models.load(self._given), whole=True)

    def content(self, split: str) -> str:
        """Return a hash of the images and labels of a list, wherever it lies."""
        if split not in self._contents:
            self._contents[split] = digest(self.images(split))
        return self._contents[split]

    def inputs(self, **more: Any) -> dict[str, Any]:
        """Return the inputs that every unit of this ground has, and ``more``."""
        mine = {"data": self.name, "val": self.content("val"), "frames": self.settings.frames, "weights": self.weights}
        asked = {} if self.settings.pixels == "default" else {"pixels": self.settings.pixels}
        return {**mine, **asked, **device_inputs(self.device), **more}

    def training_inputs(self, seed: int) -> dict[str, Any]:
        """Return the inputs of units that depend on a training."""
        settings = {name: getattr(self.settings, name) for name in ("steps", "pairs", "stills", "batch")}
        return {"seed": seed, "train": self.training.content, "clips": self.training.clips_content, **settings}

    def which_inputs(self, which: Which) -> dict[str, Any]:
        """Return the inputs of units that depend on a network's fast track and selector."""
        if which.seed is not None:
            return {"network": which.name, **self.training_inputs(which.seed)}
        return {"network": which.name, "whole": self._whole}


class First:
    """A data set cut to its first ``count`` items."""

    def __init__(self, data: LabelledImages, count: int):
        self._data, self._count = data, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def __len__(self) -> int:
        return min(self._count, len(self._data))
