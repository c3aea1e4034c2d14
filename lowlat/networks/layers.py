"""Building blocks that the networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvBN(nn.Module):
    """A convolution with "same" padding, batch norm, and ReLU unless ``relu=False``."""

    folds = (("conv", "bn"),)

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int, *, dilation: int = 1, relu: bool = True):
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(channels_in, channels_out, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that oneDNN computes on any number of threads; float32, on a CPU.

    On one thread, which is what S_h has if two cores are split, `nn.Conv2d` takes a slower kernel that copies
    channels-last features to the other layout and back: a quarter of S_h's time in `lite`.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        return torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), (1, 1), 1)


def speed_up_pointwise(network: nn.Module) -> nn.Module:
    """Make every plain 1x1 convolution without a border a :class:`Pointwise`, in place, if PyTorch has oneDNN."""
    for module in network.modules():
        plain = type(module) is nn.Conv2d and module.kernel_size == module.stride == (1, 1) and module.groups == 1
        if plain and module.padding in ((0, 0), "same", "valid") and torch.backends.mkldnn.is_available():
            # Changing the class alone keeps the layer's parameters and their names.
            module.__class__ = Pointwise
    return network


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it, in place, put ``network`` in eval mode, and return it.

    A module names its pairs in a class attribute ``folds``: ``((convolution, batch norm), ...)``. The outputs stay the
    same up to rounding. The network can no longer be trained afterwards.
    """
    network.eval()
    if hasattr(network, "fold"):
        network.fold()
    for module in list(network.modules()):
        for conv, bn in getattr(module, "folds", ()):
            norm = getattr(module, bn, None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), norm))
                setattr(module, bn, nn.Identity())
    return network
