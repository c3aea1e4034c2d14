"""The kernels' weights as ordinary tensor code, for what the compiled products don't do: derivatives of the softmax.

Logits and all that has their shape are (N, groups * K*K, H, W) of any floating type; sums are computed in the
accumulation type, results have the type of the logits. All of it can be differentiated any number of times.
"""

import torch
from torch import Tensor

from svconv import windows
from svconv.layout import in_order, like


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums and softmax are computed in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def by_tap(logits: Tensor, groups: int) -> Tensor:
    """Reshape (N, groups * K*K, H, W) to (N, groups, K*K, H, W), in the accumulation type."""
    n, channels, h, w = logits.shape
    # Not unflatten, nor flatten in the results: torch.autograd.functional has no rule for those in a batch.
    return in_order(logits.to(accumulation_type(logits.dtype))).reshape(n, groups, channels // groups, h, w)


def softmax(logits: Tensor, kernel_size: int, dilation: int, groups: int, renormalize: bool, **window) -> Tensor:
    """Return the weights, (N, groups, K*K, H, W) in the accumulation type.

    With `renormalize`, taps that read outside the frame weigh nothing. `window` are `taps` and `scale`, as in
    `svconv.svconv2d`.
    """
    logits = with_excluded(logits, kernel_size, dilation, groups, renormalize, **window)
    if torch.onnx.is_in_onnx_export():
        return logits.softmax(dim=2)
    # torch's softmax takes other exponentials at the ends of what each thread computes, so that its bits depend on the
    # number of threads. What is subtracted changes no weight, and so no derivative.
    exponentials = (logits - logits.amax(dim=2, keepdim=True).detach()).exp()
    return exponentials / exponentials.sum(dim=2, keepdim=True)


def with_excluded(
    logits: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    renormalize: bool,
    taps: str = "convolution",
    scale: int = 1,
) -> Tensor:
    """Return the logits as `by_tap` does, with `renormalize` -inf for taps that read outside the frame."""
    logits = by_tap(logits, groups)
    if not renormalize:
        return logits
    height, width = (size // scale for size in logits.shape[-2:])
    window = {"kernel_size": kernel_size, "dilation": dilation, "padding_mode": "zeros", "taps": taps, "scale": scale}
    return logits.masked_fill(~windows.taps_inside(height, width, logits.device, **window), -torch.inf)


def softmax_jacobian(
    logits: Tensor, vector: Tensor, kernel_size: int, dilation: int, groups: int, renormalize: bool, **window
) -> Tensor:
    """Multiply the softmax's first derivative at `logits`, a symmetric matrix, by `vector`."""
    weights = softmax(logits, kernel_size, dilation, groups, renormalize, **window)
    return like(logits, _jacobian(weights, by_tap(vector, groups)).reshape(logits.shape).to(logits.dtype))


def softmax_hessian(
    logits: Tensor,
    first: Tensor,
    second: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    renormalize: bool,
    **window,
) -> Tensor:
    """Multiply the softmax's second derivative at `logits`, symmetric in its three indices, by `first` and `second`."""
    weights = softmax(logits, kernel_size, dilation, groups, renormalize, **window)
    a, b = by_tap(first, groups), by_tap(second, groups)
    bilinear = _jacobian(weights, a * b - a * _mean(weights, b) - b * _mean(weights, a))
    return like(logits, bilinear.reshape(logits.shape).to(logits.dtype))


def _mean(weights: Tensor, values: Tensor) -> Tensor:
    return (values * weights).sum(dim=2, keepdim=True)


def _jacobian(weights: Tensor, vector: Tensor) -> Tensor:
    return (vector - _mean(weights, vector)) * weights
