"""A network small enough for any test: the parts of `VideoNetwork` around a backbone of four layers."""

import torch

from lowlat.networks.backbone import Backbone
from lowlat.networks.layers import ConvBN
from lowlat.networks.video_network import VideoNetwork, Widths


class TinyBackbone(Backbone):
    """Four layers of a few channels to stride 8, cut in the middle: real numbers at next to no cost."""

    folds = ()

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Sequential(ConvBN(channels_in, channels, 3), *extra)
            for channels_in, channels, extra in (
                (3, 8, [torch.nn.AvgPool2d(4)]),
                (8, 12, [torch.nn.AvgPool2d(2)]),
                (12, 16, []),
                (16, 16, []),
            )
        )
        self.channels = {"a": 8, "b": 12, "c": 16, "d": 16}
        self.set_split("b")

    def steps(self):
        return iter(zip(self.channels, self.layers, strict=True))


def tiny(**options):
    torch.manual_seed(0)
    widths = Widths(higher=16, reduced=8, fused=8)
    network = VideoNetwork(TinyBackbone(), 11, widths, mean=(0.5,) * 3, std=(0.25,) * 3, **options)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    # Deviations of their own for every pair of frames.
    torch.nn.init.normal_(network.selector.fc.weight)
    # Frames are as small as the network: none is resized unless a test asks for it.
    network.pixels = None
    return network.eval()
