"""A network's stages as modules of tensors alone, which `torch.export` can take out of this project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from lowlat.networks.labels import static_labels
from lowlat.networks.video_network import Anchor, Reduced, VideoNetwork


@dataclass(frozen=True)
class Stage:
    """One stage to export: a module, its inputs by name as an example, and its outputs by name for them."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class _Part(nn.Module):
    """A stage of tensors alone. Subclasses say in ``run`` what it does."""

    def __init__(self, network: VideoNetwork, size: tuple[int, int], low: TreeSpec):
        super().__init__()
        self.network, self.size, self.low = network, size, low

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        # A compiled package reads its inputs in the layout of the example: every tensor between stages has this one.
        return tuple(output.contiguous() for output in self.run(*inputs))


class Lower(_Part):
    """uint8 RGB ``(1, H, W, 3)`` -> F_l, and its reductions for predictor, AdaptNet and selector."""

    def run(self, frame: Tensor) -> tuple[Tensor, ...]:
        low = self.network.lower(self.network.normalise(frame.permute(0, 3, 1, 2)))
        return (*tree_flatten(low)[0], *self.network.reduce(low))


class Higher(_Part):
    """F_l -> F_h."""

    def run(self, *low: Tensor) -> tuple[Tensor]:
        return (self.network.higher(tree_unflatten(low, self.low)),)


class Classify(_Part):
    """F_h of a key frame -> its labels ``(1, H, W)``, and the scores at the network's grid."""

    def run(self, high: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.network.classify(high)
        return static_labels(scores, self.size), scores


class KeyFrame(_Part):
    """The predictor's reduction of the frame to propagate from -> its half of the fast track, once a base."""

    def run(self, predict: Tensor) -> tuple[Tensor]:
        # The other two reductions are not used here.
        return (self.network.anchor(Reduced(predict, predict, predict)).predict,)


class Propagate(_Part):
    """A base's half and F_h with a frame's reductions -> its labels, its scores, and its own F_h (Eq. 1, fusion)."""

    def run(self, anchor: Tensor, high: Tensor, predict: Tensor, adapt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The selector's reduction is used by neither.
        current = Reduced(predict, adapt, adapt)
        propagated = self.network.propagate(Anchor(anchor, anchor), high, current)
        fused = self.network.fuse(propagated, current)
        return static_labels(fused.scores, self.size), fused.scores, fused.high


class Select(_Part):
    """The selector's reductions of the key frame and of a frame -> the predicted deviation ``(1,)``."""

    def run(self, key: Tensor, select: Tensor) -> tuple[Tensor]:
        return (self.network.deviation(Anchor(key, key), Reduced(select, select, select)),)


@torch.no_grad()
def stages(network: VideoNetwork, size: tuple[int, int]) -> Iterator[Stage]:
    """Return the stages of a prepared network for frames of ``size`` ``(H, W)``, each run once on random frames."""
    generator = torch.Generator().manual_seed(0)
    frame, other = torch.randint(0, 256, (2, 1, *size, 3), dtype=torch.uint8, generator=generator)
    low, spec = tree_flatten(network.lower(network.normalise(frame.permute(0, 3, 1, 2))))
    lows = [f"low{index or ''}" for index in range(len(low))]

    def stage(kind: type[_Part], name: str, inputs: dict[str, Tensor], names: tuple[str, ...]) -> Stage:
        module = kind(network, size, spec).eval()
        return Stage(name, module, inputs, dict(zip(names, module(*inputs.values()), strict=True)))

    reduced = "predict", "adapt", "select"
    lower = stage(Lower, "lower", {"frame": frame}, (*lows, *reduced))
    of_key = dict(zip(lower.outputs, lower.module(other), strict=True))
    higher = stage(Higher, "higher", {name: of_key[name] for name in lows}, ("high",))
    anchor = stage(KeyFrame, "anchor", {"predict": of_key["predict"]}, ("anchor",))
    current = {name: lower.outputs[name] for name in ("predict", "adapt")}
    yield lower
    yield higher
    yield stage(Classify, "classify", higher.outputs, ("labels", "scores"))
    yield anchor
    yield stage(
        Propagate, "propagate", {**anchor.outputs, **higher.outputs, **current}, ("labels", "scores", "carried")
    )
    yield stage(Select, "select", {"key": of_key["select"], "select": lower.outputs["select"]}, ("deviation",))
