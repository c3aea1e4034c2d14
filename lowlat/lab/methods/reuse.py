"""Propagation without motion: what is there of the key frame is used where it is (Clockwork).

Shelhamer, Rakelly, Hoffman, Darrell, "Clockwork Convnets for Video Semantic Segmentation", ECCV Workshops 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

from lowlat.lab.methods.base import Propagation, View, fork
from lowlat.networks.video_network import VideoNetwork


class Reuse(Propagation):
    """The key frame's scores, shown unchanged: the whole network on one clock."""

    name = "reuse"

    def begin(self, key: View, high: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.classify(high), high

    def carry(self, state: tuple[Tensor, Tensor], current: View) -> tuple[Tensor, Tensor]:
        return state


class Clockwork(Propagation):
    """Stage-wise clocks: S_l fresh on every frame, F_h of the key frame where it is.

    Their stages meet by summing scores at the skips of an FCN; here they meet in AdaptNet and fusion, as in
    `AdaptiveFusion`, from which it differs by the missing kernels alone.
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
