"""The definitions of spatially variant convolution and of correlation in plain PyTorch, by unfolding.

They are there to be read, and for tests: unfolding makes the K*K-fold copy of the input that the kernels avoid. They
can be differentiated by autograd, in any floating type on any device.
"""

import torch
from torch import Tensor

from svconv import windows
from svconv.arguments import check_correlation2d, check_svconv2d


def svconv2d(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    taps: str = "convolution",
    tap_major: bool = False,
    scale: int = 1,
) -> Tensor:
    """Same contract as `svconv.svconv2d`.

        out[n,c,i,j] = sum over u,v in [-r,r] of  w[n,g(c),(u,v),i,j] * input[n,c,i-d*u,j-d*v]

    (Eq. 1 of the paper, r = kernel_size // 2, d = dilation; taps row-major over (u, v)).
    """
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=groups, normalize=normalize)
    options.update(padding_mode=padding_mode, taps=taps, tap_major=tap_major, scale=scale)
    options = check_svconv2d("svconv.reference.svconv2d", input, logits, **options)
    window, groups = _window(options), options["groups"]
    n, c, h, w = input.shape
    weights = logits.unflatten(1, (-1, groups)).transpose(1, 2) if tap_major else logits.unflatten(1, (groups, -1))
    if options["normalize"]:
        if options["padding_mode"] == "renormalize":
            weights = weights.masked_fill(~windows.taps_inside(h, w, input.device, **window), -torch.inf)
        weights = weights.softmax(dim=2)
    patches = windows.unfold(input, **window).unflatten(1, (groups, c // groups))
    return torch.einsum("ngcthw,ngthw->ngchw", patches, weights).flatten(1, 2)


def correlation2d(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    taps: str = "convolution",
    tap_major: bool = False,
    scale: int = 1,
) -> Tensor:
    """Same contract as `svconv.correlation2d`.

    out[n,g,(u,v),i,j] = sum over c of group g of  query[n,c,i,j] * key[n,c,i-d*u,j-d*v]
    """
    options = dict(kernel_size=kernel_size, dilation=dilation, groups=groups)
    options.update(padding_mode=padding_mode, taps=taps, tap_major=tap_major, scale=scale)
    options = check_correlation2d("svconv.reference.correlation2d", query, key, **options)
    split = options["groups"], query.shape[1] // options["groups"]
    patches = windows.unfold(key, **_window(options)).unflatten(1, split)
    out = torch.einsum("ngchw,ngcthw->ngthw", query.unflatten(1, split), patches)
    return (out.transpose(1, 2) if tap_major else out).flatten(1, 2)


def _window(options: dict[str, object]) -> dict[str, object]:
    return {name: options[name] for name in ("kernel_size", "dilation", "padding_mode", "taps", "scale")}
