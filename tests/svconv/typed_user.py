"""What a user may write: every public name, as type checkers see it (test_svconv_typing.py)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import svconv
import svconv.numpy
import svconv.ops
import svconv.reference
from svconv import (
    SVConv2d,
    backends,
    build_info,
    compat,
    correlation2d,
    explain,
    library_path,
    ops,
    reference,
    svconv2d,
    warmup,
)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.propagate = SVConv2d(9, dilation=2, groups=1, normalize=True, padding_mode="zeros", backend=None)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        out: Tensor = self.propagate(features, logits)
        return out


features, logits = torch.randn(1, 6, 12, 15), torch.randn(1, 81, 12, 15)
out: Tensor = svconv2d(
    features, logits, kernel_size=9, dilation=1, groups=1, normalize=True, padding_mode="zeros", backend="cpu"
)
out = svconv2d(features, logits, out=torch.empty_like(features))
out = svconv.svconv2d(features, logits)
out = svconv2d(features, logits, padding_mode="shift", taps="correlation", tap_major=True, scale=1)
out = correlation2d(features, features, kernel_size=9, dilation=1, groups=1, backend=None)
out = correlation2d(features, features, padding_mode="reflect", taps="correlation", tap_major=True, scale=1)
out = compat.na2d_qk(features[None], features[None], (3, 3), 1) + compat.carafe(features, logits, 9, 1, 1)
out = compat.na2d_av(logits[None], features[None], kernel_size=9, dilation=(1, 1))
out = compat.convex_upsample(features, logits, factor=1) + compat.context_upsample(features, logits, scale_factor=1)
out = compat.adaptive_conv(features, logits[..., None])
out = reference.svconv2d(features, logits) + svconv.reference.svconv2d(features, logits)
out = reference.correlation2d(features, features)
out = ops.forward(features, logits, 9, 1, 1, True, False, out=None) + svconv.ops.forward(features, logits)
out = Model()(features, logits)
explanation = explain(features, logits, kernel_size=9)
chosen: str = explanation.chosen
obstacles: list[str | None] = [verdict.obstacle for verdict in explanation.verdicts]
rows: list[tuple[str, str, str | None, str | None]] = [(b.name, b.description, b.cpu, b.cuda) for b in backends()]
facts: dict[str, object] = build_info()
path: Path = library_path()
version: str = svconv.__version__
warmup((1, 6, 12, 15), dtype=torch.float32, device="cpu", gradients=True, kernel_size=3)
array: np.ndarray = svconv.numpy.svconv2d(features.numpy(), logits.numpy(), kernel_size=9, threads=2)
