"""Methods without motion: F_h of the key frame stays where it is (Clockwork).

Shelhamer, Rakelly, Hoffman, Darrell, "Clockwork Convnets for Video Semantic Segmentation", ECCV Workshops 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

from lowlat.lab.methods.method import Method, View, fork
from lowlat.networks.video_network import VideoNetwork


class Reuse(Method):
    """The key frame's scores, shown unchanged until the next key frame."""

    name = "reuse"

    def begin(self, key: View, high: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.classify(high), high

    def carry(self, state: tuple[Tensor, Tensor], current: View) -> tuple[Tensor, Tensor]:
        return state


class Clockwork(Method):
    """S_l computed on every frame, F_h of the key frame left where it is.

    The published network sums its stages' scores at the skips of an FCN; here the stages meet in AdaptNet and fusion
    as those of `AdaptiveFusion` do, from which this method differs by the missing kernels alone.
    """

    name = "clockwork"
    trained = True

    def __init__(self, network: VideoNetwork):
        super().__init__(fork(network, "reduction", "adapt", "fusion"))

    @property
    def learned(self) -> nn.ModuleDict:
        net = self.network
        return nn.ModuleDict({"reduction": net.reduction, "adapt": net.adapt, "fusion": net.fusion})

    def begin(self, key: View, high: Tensor) -> Tensor:
        return high

    def carry(self, state: Tensor, current: View) -> tuple[Tensor, Tensor]:
        return self.network.fuse(state, self.network.reduce(current.low))
