"""What every way of carrying a key frame's features to the current frame offers. For the methods and who runs them."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from lowlat.networks.layers import reset_parameters
from lowlat.networks.video_network import VideoNetwork


class View(NamedTuple):
    """What a method may see of a frame for the cost of S_l."""

    frame: Tensor
    """uint8 RGB ``(N, 3, H, W)``."""
    low: Tensor
    """F_l ``(N, C_l, h, w)``."""
    index: int | None = None
    """Which item of its data set the frame is, where a method asks the data (`ExactFlow`)."""


class Propagation(nn.Module):
    """One method of propagation: F_h of a key frame -> scores and F_h of a later frame.

        state = method.begin(key, high)            # at a key frame
        scores, high = method.carry(state, view)   # at every later frame
        state = method.begin(view, high)           # a temporary key frame, after a promotion

    Methods hold no state of a stream. F_h is what later frames are propagated from; scores ``(N, classes, h', w')`` are
    of any size, and come from the key frames' classifier where a method says nothing else.

    Args:
        network: a `VideoNetwork`, trained per frame; its S_l, S_h and key frames' classifier are used and left alone.

    Attributes:
        name: what the method is called in `METHODS`.
        trained: whether the method has parameters of its own, trained by ``lowlat train propagation --method NAME``.
        needs_flow: whether it asks the data for exact optical flow.
        learning_rate_scale: factor on the learning rate; a few numbers have further to go than a convolution's weights.
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
        """What ``carry`` needs of a key frame and its F_h ``(N, C_h, h, w)``, computed once a key frame."""
        raise NotImplementedError

    def carry(self, state: Any, current: View) -> tuple[Tensor, Tensor]:
        """Scores ``(N, classes, h', w')`` and F_h ``(N, C_h, h, w)`` of the current frame."""
        raise NotImplementedError


def fork(network: VideoNetwork, *names: str) -> VideoNetwork:
    """The same network with modules ``names`` of its own: training them leaves the first network as it is."""
    forked = copy.copy(network)
    forked._modules = {
        name: copy.deepcopy(module) if name in names else module for name, module in network._modules.items()
    }
    return forked
