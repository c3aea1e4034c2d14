"""Spatially variant convolution: every pixel has its own kernel, predicted by a network, shared over channels.

`svconv2d` is the operator, `SVConv2d` the module, `svconv.reference` the definition in plain PyTorch,
`build_info` what was built and which instruction set runs.
"""

from svconv import reference
from svconv.functional import svconv2d
from svconv.info import build_info
from svconv.module import SVConv2d

__version__ = build_info()["version"]
__all__ = ["SVConv2d", "build_info", "reference", "svconv2d"]
