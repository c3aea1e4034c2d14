"""The definitions of spatially variant convolution and of correlation in plain PyTorch, by unfolding.

For reading and for tests: it builds the K*K-fold unfolded input that the kernels avoid. Differentiable by autograd, any
floating type, any device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

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
) -> Tensor:
    """Same contract as `svconv.svconv2d`.

        out[n,c,i,j] = sum over u,v in [-r,r] of  w[n,g(c),(u,v),i,j] * input[n,c,i-d*u,j-d*v]

    (Eq. 1 of the paper, r = kernel_size // 2, d = dilation; taps row-major over (u, v)).
    """
    options = kernel_size, dilation, groups, normalize, padding_mode
    options = check_svconv2d("svconv.reference.svconv2d", input, logits, *options)
    kernel_size, dilation, groups, normalize, padding_mode = options.values()
    n, c, h, w = input.shape
    taps = kernel_size * kernel_size
    # unfold reads at (i + d*u, j + d*v): a convolution takes its taps in reverse.
    weights = logits.reshape(n, groups, taps, h, w).flip(2)
    if normalize:
        if padding_mode == "renormalize":
            inside = _unfold(input.new_ones(1, 1, h, w), kernel_size, dilation) > 0
            weights = weights.masked_fill(~inside, -torch.inf)
        weights = weights.softmax(dim=2)
    patches = _unfold(input, kernel_size, dilation).reshape(n, groups, c // groups, taps, h, w)
    return torch.einsum("ngcthw,ngthw->ngchw", patches, weights).reshape(n, c, h, w)


def correlation2d(query: Tensor, key: Tensor, *, kernel_size: int = 9, dilation: int = 1, groups: int = 1) -> Tensor:
    """Same contract as `svconv.correlation2d`.

    out[n,g,(u,v),i,j] = sum over c of group g of  query[n,c,i,j] * key[n,c,i-d*u,j-d*v]
    """
    options = check_correlation2d("svconv.reference.correlation2d", query, key, kernel_size, dilation, groups)
    kernel_size, dilation, groups = options.values()
    n, c, h, w = query.shape
    patches = _unfold(key, kernel_size, dilation).reshape(n, groups, c // groups, kernel_size * kernel_size, h, w)
    query = query.reshape(n, groups, c // groups, h, w)
    return torch.einsum("ngchw,ngcthw->ngthw", query, patches).flip(2).flatten(1, 2)


def _unfold(input: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """(N, C, H, W) -> (N, C, K*K, H, W): at (u, v) the value at (i + d*u, j + d*v), zero outside the frame."""
    n, c, h, w = input.shape
    padding = dilation * (kernel_size // 2)
    patches = F.unfold(input, kernel_size, dilation=dilation, padding=padding)
    return patches.reshape(n, c, kernel_size * kernel_size, h, w)
