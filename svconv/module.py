"""`SVConv2d`: the operator with its options fixed, as a module."""

import torch
from torch import Tensor, nn

from svconv import checks, dispatch
from svconv.arguments import SYMBOLS
from svconv.functional import OPTIONS, svconv2d
from svconv.ops import BORDERS, reads
from svconv.windows import groups_first


class SVConv2d(nn.Module):
    """Spatially variant convolution with fixed options; no parameters, the kernels are an input.

    Arguments, shapes, dtypes and errors are those of `svconv.svconv2d`; options are checked at construction, and all
    but the first are given by name.

        propagate = SVConv2d(kernel_size=9)
        out = propagate(features, logits)    # (N, C, H, W), (N, 81, H, W) -> (N, C, H, W)
    """

    def __init__(
        self,
        kernel_size: int = 9,
        *,
        dilation: int = 1,
        groups: int = 1,
        normalize: bool = True,
        padding_mode: str = "zeros",
        taps: str = "convolution",
        tap_major: bool = False,
        scale: int = 1,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        options = kernel_size, dilation, groups, normalize, padding_mode, taps, tap_major, scale
        options = checks.options("SVConv2d", *options, SYMBOLS)
        dispatch.check_name(backend, "SVConv2d")
        self.kernel_size: int = options["kernel_size"]
        self.dilation: int = options["dilation"]
        self.groups: int = options["groups"]
        self.normalize: bool = options["normalize"]
        self.padding_mode: str = options["padding_mode"]
        self.taps: str = options["taps"]
        self.tap_major: bool = options["tap_major"]
        self.scale: int = options["scale"]
        self.backend = backend
        self._border: int = BORDERS[self.padding_mode]

    def __prepare_scriptable__(self) -> "SVConv2d":
        """Called by `torch.jit.script`: raise ValueError for what the operator alone can't do."""
        wrong = None
        if self.backend not in (None, "cpu", "cuda"):
            wrong = f"backend None, 'cpu' or 'cuda' in TorchScript, got {self.backend!r}; leave it out"
        elif not reads(dilation=self.dilation, padding_mode=self.padding_mode, scale=self.scale):
            wrong = (
                "a dilation of 1 with a scale or with mirrored or repeated borders in TorchScript, got "
                f"{self.dilation}; use torch.jit.trace or torch.export"
            )
        if wrong:
            raise ValueError(f"SVConv2d: expected {wrong}")
        return self

    def forward(self, input: Tensor, logits: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            # TorchScript has neither the choice of a backend nor its checks; the operator has its own.
            if self.tap_major:
                logits = groups_first(logits, self.groups)
            return torch.ops.svconv.forward(
                input,
                logits,
                self.kernel_size,
                self.dilation,
                self.groups,
                self.normalize,
                self.padding_mode == "renormalize",
                False,
                self._border,
                self.taps == "correlation",
                self.scale,
            )[0]
        return svconv2d(
            input,
            logits,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            groups=self.groups,
            normalize=self.normalize,
            padding_mode=self.padding_mode,
            taps=self.taps,
            tap_major=self.tap_major,
            scale=self.scale,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in OPTIONS)
