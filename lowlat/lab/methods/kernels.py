"""Methods by kernels (Eq. 1 of the paper), which differ in where the kernels' weights come from.

Li, Shi, Lin, "Low-Latency Video Semantic Segmentation", CVPR 2018, Sections 3.2 and 3.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.lab.methods.method import Method, View, fork
from lowlat.networks.video_network import Anchor, VideoNetwork
from svconv import svconv2d


class Kernels(Method):
    """F_h carried by kernels, whose logits a subclass gives; the key frames' classifier reads the result."""

    trained = True

    def propagate(self, high: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and propagated F_h, from F_h ``(N, C_h, h, w)`` and logits ``(N, K*K, h, w)``."""
        network = self.network
        size = network.predictor.kernel_size
        high = svconv2d(high, logits, kernel_size=size, padding_mode=network.padding_mode)
        return network.classify(high), high


class UnifiedKernel(nn.Module):
    """The logits of one K x K kernel, in which the centre tap has the most weight at the start of training."""

    def __init__(self, kernel_size: int):
        super().__init__()
        self.logits = nn.Parameter(torch.empty(kernel_size**2))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.logits.zero_()
        self.logits[len(self.logits) // 2] = 5.0

    def forward(self, like: Tensor) -> Tensor:
        """Repeat the logits at every position of ``like`` ``(N, C, h, w)``: ``(N, K*K, h, w)``, a view."""
        return self.logits.view(1, -1, 1, 1).expand(len(like), -1, *like.shape[-2:])


class Unified(Kernels):
    """One learned kernel for all positions and all frames."""

    name = "unified"
    learning_rate_scale = 30.0

    def __init__(self, network: VideoNetwork):
        super().__init__(network)
        self.kernel = UnifiedKernel(network.predictor.kernel_size)

    @property
    def learned(self) -> nn.ModuleDict:
        return nn.ModuleDict({"kernel": self.kernel})

    def begin(self, key: View, high: Tensor) -> Tensor:
        return high

    def carry(self, state: Tensor, current: View) -> tuple[Tensor, Tensor]:
        return self.propagate(state, self.kernel(state))


class ImageKernel(nn.Module):
    """Logits from the colours of two images, with learned scales s and r.

    The logit of tap d is ``-|I_t(x) - I_k(x - d)|^2 / s - |d|^2 / r``.
    s is in units of squared colour (RGB in [0, 1]), r in squared positions of the map.
    """

    def __init__(self, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.log_colour = nn.Parameter(torch.empty(()))
        self.log_place = nn.Parameter(torch.empty(()))
        self.reset_parameters()
        reach = torch.arange(kernel_size) - kernel_size // 2
        distance = (reach[:, None] ** 2 + reach**2).float().reshape(1, -1, 1, 1)
        self.register_buffer("distance", distance, persistent=False)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.log_colour.fill_(math.log(0.02))
        self.log_place.fill_(math.log(4.0))

    def forward(self, key: Tensor, current: Tensor) -> Tensor:
        """Logits ``(N, K*K, h, w)`` from two images ``(N, 3, h, w)`` in [0, 1]."""
        n, c, h, w = key.shape
        around = F.unfold(key, self.kernel_size, padding=self.kernel_size // 2).view(n, c, -1, h, w)
        # unfold reads x + d, the operator x - d: its taps run the other way.
        difference = (current[:, :, None] - around.flip(2)).square().sum(1)
        return -difference / self.log_colour.exp() - self.distance / self.log_place.exp()


class ImageDifference(Kernels):
    """Kernels by image difference: a position reads most from where the key frame had its colour."""

    name = "image-difference"
    learning_rate_scale = 30.0

    class State(NamedTuple):
        image: Tensor
        high: Tensor

    def __init__(self, network: VideoNetwork):
        super().__init__(network)
        self.kernel = ImageKernel(network.predictor.kernel_size)

    @property
    def learned(self) -> nn.ModuleDict:
        return nn.ModuleDict({"kernel": self.kernel})

    def begin(self, key: View, high: Tensor) -> State:
        return self.State(shrink(key.frame, high), high)

    def carry(self, state: State, current: View) -> tuple[Tensor, Tensor]:
        logits = self.kernel(state.image, shrink(current.frame, state.high))
        return self.propagate(state.high, logits.to(state.high.dtype))


def shrink(frame: Tensor, like: Tensor) -> Tensor:
    """Average frames, uint8 ``(N, 3, H, W)``, down to the height and width of ``like``: float32 in [0, 1]."""
    return F.interpolate(frame.float() / 255, like.shape[-2:], mode="area")


class Predicted(NamedTuple):
    """The state of the methods whose kernels the network predicts."""

    anchor: Anchor
    high: Tensor


class Adaptive(Kernels):
    """Kernels predicted for every position from F_l of both frames, read by the key frames' classifier without fusion.

    The method starts with the network's own trained predictor, until it is trained by itself.
    """

    name = "adaptive"

    def __init__(self, network: VideoNetwork):
        super().__init__(fork(network, "reduction", "predictor"))

    @property
    def learned(self) -> nn.ModuleDict:
        return nn.ModuleDict({"reduction": self.network.reduction, "predictor": self.network.predictor})

    def begin(self, key: View, high: Tensor) -> Predicted:
        return Predicted(self.network.anchor(self.network.reduce(key.low)), high)

    def carry(self, state: Predicted, current: View) -> tuple[Tensor, Tensor]:
        high = self.network.propagate(state.anchor, state.high, self.network.reduce(current.low))
        return self.network.classify(high), high


class AdaptiveFusion(Method):
    """The paper's method, by the network's own modules: predicted kernels, AdaptNet and fusion.

    Training it trains the network; the live engine runs the same stages.
    """

    name = "adaptive-fusion"
    trained = True

    @property
    def learned(self) -> nn.ModuleDict:
        names = ("reduction", "predictor", "adapt", "fusion")
        return nn.ModuleDict({name: getattr(self.network, name) for name in names})

    def begin(self, key: View, high: Tensor) -> Predicted:
        return Predicted(self.network.anchor(self.network.reduce(key.low)), high)

    def carry(self, state: Predicted, current: View) -> tuple[Tensor, Tensor]:
        reduced = self.network.reduce(current.low)
        return self.network.fuse(self.network.propagate(state.anchor, state.high, reduced), reduced)
