"""The kernels' weights as ordinary tensor code, for what the compiled products don't do: derivatives of the softmax.

Logits and all that has their shape are (N, groups * K*K, H, W) of any floating type; sums are computed in the
accumulation type, results have the type of the logits. All of it can be differentiated any number of times.
"""

import torch
from torch import Tensor


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums and softmax are computed in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def by_tap(logits: Tensor, groups: int) -> Tensor:
    """(N, groups * K*K, H, W) -> (N, groups, K*K, H, W), in the accumulation type."""
    n, channels, h, w = logits.shape
    # Not unflatten, nor flatten in the results: torch.autograd.functional has no rule for those in a batch.
    return logits.to(accumulation_type(logits.dtype)).reshape(n, groups, channels // groups, h, w)


def softmax(logits: Tensor, kernel_size: int, dilation: int, groups: int, renormalize: bool) -> Tensor:
    """The weights, (N, groups, K*K, H, W) in the accumulation type.

    With `renormalize`, taps that read outside the frame weigh nothing.
    """
    return with_excluded(logits, kernel_size, dilation, groups, renormalize).softmax(dim=2)


def with_excluded(logits: Tensor, kernel_size: int, dilation: int, groups: int, renormalize: bool) -> Tensor:
    """The logits as `by_tap` has them, with `renormalize` -inf for taps that read outside the frame."""
    logits = by_tap(logits, groups)
    if not renormalize:
        return logits
    inside = taps_inside(*logits.shape[-2:], kernel_size, dilation, logits.device)
    return logits.masked_fill(~inside, -torch.inf)


def softmax_jacobian(
    logits: Tensor, vector: Tensor, kernel_size: int, dilation: int, groups: int, renormalize: bool
) -> Tensor:
    """The softmax's first derivative at `logits`, a symmetric matrix, times `vector`."""
    weights = softmax(logits, kernel_size, dilation, groups, renormalize)
    return _jacobian(weights, by_tap(vector, groups)).reshape(logits.shape).to(logits.dtype)


def softmax_hessian(
    logits: Tensor, first: Tensor, second: Tensor, kernel_size: int, dilation: int, groups: int, renormalize: bool
) -> Tensor:
    """The softmax's second derivative at `logits`, symmetric in its three indices, times `first` and `second`."""
    weights = softmax(logits, kernel_size, dilation, groups, renormalize)
    a, b = by_tap(first, groups), by_tap(second, groups)
    bilinear = _jacobian(weights, a * b - a * _mean(weights, b) - b * _mean(weights, a))
    return bilinear.reshape(logits.shape).to(logits.dtype)


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    return (values * weights).sum(dim=2, keepdim=True)


def _jacobian(weights: Tensor, vector: Tensor) -> Tensor:
    # Softmax comes in NCHW; the first factor decides the result's memory format.
    return (vector - _mean(weights, vector)) * weights


def taps_inside(height: int, width: int, kernel_size: int, dilation: int, device: torch.device) -> Tensor:
    """(K*K, H, W), bool: does tap (u, v) of pixel (i, j) read inside the frame, at (i - d*u, j - d*v)?"""

    def along(size: int) -> Tensor:
        offsets = dilation * (torch.arange(kernel_size, device=device) - kernel_size // 2)
        read = torch.arange(size, device=device) - offsets[:, None]
        return (read >= 0) & (read < size)

    rows, columns = along(height), along(width)
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)
