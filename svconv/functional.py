"""`svconv2d`: argument checks, choice of backend, the call. The one place where arguments are checked."""

import torch
from torch import Tensor

from svconv.backends import select

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PADDING_MODES = ("zeros", "renormalize")


def svconv2d(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
    backend: str | None = None,
) -> Tensor:
    """Convolution with a kernel of its own at every pixel, shared over the channels of a group (Eq. 1 of the paper).

        out[n,c,i,j] = sum over u,v in [-r,r] of  w[n,g(c),(u,v),i,j] * input[n,c,i-d*u,j-d*v]

    with r = kernel_size // 2, d = dilation, and w the softmax of the logits over the taps. Taps are row-major: (u, v)
    is logits channel g * K * K + (u + r) * K + (v + r). It is a convolution (minus signs), not a correlation.

    Args:
        input: (N, C, H, W), float32, float64, float16 or bfloat16, any strides; NCHW and channels-last are read as
            they are, without a copy.
        logits: (N, groups * kernel_size**2, H, W), dtype and device of `input`, any strides.
        kernel_size: K, odd; the kernel is K x K.
        dilation: distance between taps, in pixels.
        groups: number of kernels per pixel; channels divide evenly among them.
        normalize: softmax over the taps (default), or the logits as they are.
        padding_mode: "zeros": positions outside the frame count as zero. "renormalize": they are excluded from the
            softmax, so that the weights of the taps inside still sum to one (no effect without softmax).
        backend: None for the best that can run, or "cpu" or "reference".

    Returns:
        (N, C, H, W), dtype and memory format of `input`. Sums and softmax are computed in float32 (float64 for
        float64); the result is the same bit for bit whatever the number of threads.

    Under autocast the operator runs in the autocast dtype. Differentiable once, in `input` and `logits`.

    Raises:
        TypeError: an argument of the wrong type, or `input` and `logits` of different dtypes.
        ValueError: a wrong shape, value or device, or a backend that can't run.
    """
    _check_options(kernel_size, dilation, groups, padding_mode)
    _check_tensors(input, logits, kernel_size, groups)
    return select(backend, input, logits).run(
        input, logits, kernel_size, dilation, groups, bool(normalize), padding_mode
    )


def _check_options(kernel_size: int, dilation: int, groups: int, padding_mode: str) -> None:
    for name, value in (("kernel_size", kernel_size), ("dilation", dilation), ("groups", groups)):
        if not isinstance(value, (int, torch.SymInt)) or isinstance(value, bool):
            raise TypeError(f"svconv2d: expected {name} to be an int, got {value!r} ({type(value).__name__})")
        if value < 1:
            raise ValueError(f"svconv2d: expected {name} to be at least 1, got {value}")
    if kernel_size % 2 == 0:
        raise ValueError(
            f"svconv2d: expected an odd kernel_size, got {kernel_size}; "
            f"use {kernel_size - 1} or {kernel_size + 1}, so that the kernel has a centre"
        )
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"svconv2d: expected padding_mode to be one of {PADDING_MODES}, got {padding_mode!r}")


def _check_tensors(input: Tensor, logits: Tensor, kernel_size: int, groups: int) -> None:
    for name, value in (("input", input), ("logits", logits)):
        if not isinstance(value, Tensor):
            raise TypeError(f"svconv2d: expected {name} to be a torch.Tensor, got {type(value).__name__}")
        if value.ndim != 4:
            raise ValueError(
                f"svconv2d: expected {name} of 4 dimensions (N, C, H, W), got shape {tuple(value.shape)}"
                + ("; add the batch with unsqueeze(0)" if value.ndim == 3 else "")
            )
        if value.dtype not in DTYPES:
            raise TypeError(
                f"svconv2d: expected {name} of dtype float32, float64, float16 or bfloat16, got {value.dtype}; "
                f"convert it, for example with {name}.float()"
            )
    if input.device != logits.device:
        raise ValueError(
            f"svconv2d: expected input and logits on one device, got {input.device=} and {logits.device=}; "
            "move one with .to(...)"
        )
    if input.dtype != logits.dtype and not torch.is_autocast_enabled(input.device.type):
        raise TypeError(
            f"svconv2d: expected input and logits of one dtype, got {input.dtype=} and {logits.dtype=}; "
            "convert one, for example logits.to(input.dtype)"
        )
    n, c, h, w = input.shape
    if c % groups != 0:
        raise ValueError(
            f"svconv2d: expected the channels of input to be divisible by groups, got {c} channels and {groups=}"
        )
    expected = (n, groups * kernel_size * kernel_size, h, w)
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"svconv2d: expected logits of shape (N, groups * kernel_size**2, H, W) = {expected} for input of shape "
            f"{tuple(input.shape)}, got {tuple(logits.shape)}; "
            f"predict {expected[1]} channels at the height and width of input"
        )
