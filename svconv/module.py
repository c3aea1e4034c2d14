"""`SVConv2d`: the operator with its options fixed, as a module."""

from torch import Tensor, nn

from svconv.functional import _check_options, svconv2d


class SVConv2d(nn.Module):
    """Spatially variant convolution with fixed options; no parameters, the kernels are an input.

    Arguments, shapes, dtypes and errors are those of `svconv.svconv2d`; options are checked at construction.

        propagate = SVConv2d(kernel_size=9)
        out = propagate(features, logits)    # (N, C, H, W), (N, 81, H, W) -> (N, C, H, W)
    """

    def __init__(
        self,
        kernel_size: int = 9,
        dilation: int = 1,
        groups: int = 1,
        normalize: bool = True,
        padding_mode: str = "zeros",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        _check_options(kernel_size, dilation, groups, padding_mode)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.groups = groups
        self.normalize = normalize
        self.padding_mode = padding_mode
        self.backend = backend

    def forward(self, input: Tensor, logits: Tensor) -> Tensor:
        return svconv2d(
            input,
            logits,
            kernel_size=self.kernel_size,
            dilation=self.dilation,
            groups=self.groups,
            normalize=self.normalize,
            padding_mode=self.padding_mode,
            backend=self.backend,
        )

    def extra_repr(self) -> str:
        options = ("kernel_size", "dilation", "groups", "normalize", "padding_mode", "backend")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in options)
