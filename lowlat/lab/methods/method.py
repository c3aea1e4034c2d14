"""The interface of every method that carries a key frame's features to the current frame."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from lowlat.networks.video_network import VideoNetwork


class View(NamedTuple):
    """The part of a frame that a method may see, at no more cost than S_l."""

    frame: Tensor
    """uint8 RGB ``(N, 3, H, W)``."""
    low: Tensor
    """F_l ``(N, C_l, h, w)``."""
    index: int | None = None
    """The frame's index in its data set, for a method that asks the data (`ExactFlow`)."""


class Method(nn.Module):
    """A method: from F_h of a key frame to scores and F_h of a later frame.

        state = method.begin(key, high)            # at a key frame
        scores, high = method.carry(state, view)   # at every later frame
        state = method.begin(view, high)           # a temporary key frame, after a promotion

    A method holds no state of a video. Later frames are carried from the F_h it gives; its scores
    ``(N, classes, h', w')`` may be of any size, and come from the key frames' classifier where it says nothing else.

    Args:
        network: a `VideoNetwork`, trained per frame; its S_l, S_h and key frames' classifier are used and left alone.

    Attributes:
        name: its name in `METHODS`.
        trained: whether the method has parameters of its own, trained by ``lowlat train propagation --method NAME``.
        needs_flow: whether it asks the data for exact optical flow.
        learning_rate_scale: a factor on the learning rate: single numbers need larger steps than convolutions.
        network: the network it was built around.
        learned: the modules that training changes, by name.
    """

    name: ClassVar[str]
    trained: ClassVar[bool] = False
    needs_flow: ClassVar[bool] = False
    learning_rate_scale: ClassVar[float] = 1.0

    def __init__(self, network: VideoNetwork):
        super().__init__()
        self.network = network

    @property
    def learned(self) -> nn.ModuleDict:
        return nn.ModuleDict()

    def reset(self) -> None:
        """Give what is learned fresh parameters, from torch's global generator."""
        reset_parameters(self.learned)

    def begin(self, key: View, high: Tensor) -> Any:
        """The state that ``carry`` needs, from a key frame and its F_h ``(N, C_h, h, w)``; made once a key frame."""
        raise NotImplementedError

    def carry(self, state: Any, current: View) -> tuple[Tensor, Tensor]:
        """Carry F_h to the current frame: its scores ``(N, classes, h', w')`` and F_h ``(N, C_h, h, w)``."""
        raise NotImplementedError


def fork(network: VideoNetwork, *names: str) -> VideoNetwork:
    """Return the same network with modules ``names`` of its own: training them leaves the first network as it is."""
    forked = copy.copy(network)
    forked._modules = {
        name: copy.deepcopy(module) if name in names else module for name, module in network._modules.items()
    }
    return forked


def reset_parameters(module: nn.Module) -> None:
    """Give a module and all within it fresh parameters, from torch's global generator."""
    # Inner modules come first: an outer one may give their parameters other values afterwards.
    for inner in reversed(list(module.modules())):
        if hasattr(inner, "reset_parameters"):
            inner.reset_parameters()
