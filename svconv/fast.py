"""The short way to the operator for calls in a hot loop: checks that cost microseconds are left to the operator
itself.

The operator refuses what doesn't fit without naming a mend. A caller that gets None takes the long way, which names it.
"""

import math

import torch
from torch import Tensor

from svconv import checks, ops, torch_private
from svconv.precision import asks_for_tf32

_TENSORS = (Tensor, torch.nn.Parameter)
_INTO = torch.ops.svconv.forward_into.default
# Results from this size on get memory that is kept between calls (csrc/results.h), but from `forward` alone.
_KEPT_BYTES = 4 << 20


def svconv2d(
    input: Tensor,
    logits: Tensor,
    out: Tensor | None,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    padding_mode: str,
    taps: str,
    tap_major: bool,
    scale: int,
) -> Tensor | None:
    """Do `svconv.svconv2d` on plain CPU tensors and plain windows, without choosing a backend; return None for any
    other call, and for a wrong one."""
    if (
        not _runs_at_once(input, logits)
        or not (type(kernel_size) is type(dilation) is type(groups) is type(scale) is int)
        or type(normalize) is not bool
        or not (type(padding_mode) is type(taps) is str)
        or padding_mode not in ("zeros", "renormalize")
        or taps != "convolution"
        or tap_major is not False
        or scale != 1
    ):
        return None
    options = kernel_size, dilation, groups, normalize, padding_mode == "renormalize", asks_for_tf32()
    try:
        if out is None:
            return _result(input, logits, input.shape, options)
        if type(out) is not Tensor or torch.is_grad_enabled():
            return None
        _INTO(input, logits, out, *options)
        return out
    except RuntimeError:
        return None


def convex_upsample(flow: Tensor, mask: Tensor, factor: int) -> Tensor | None:
    """Do `svconv.compat.convex_upsample` on plain CPU tensors; return None for any other call, and for a wrong one."""
    if not _runs_at_once(flow, mask) or type(factor) is not int or factor < 1 or not flow.ndim == mask.ndim == 4:
        return None
    n, c, h, w = mask.shape[0], flow.shape[1], *mask.shape[2:]
    kernel_size = checks.odd_root(mask.shape[1] // factor**2)
    window = ops.raw_window("zeros", "correlation", factor, cells=True)
    options = kernel_size, 1, 1, True, False, False, *window
    try:
        return _result(flow, mask, (n, c, factor * h, factor * w), options)
    except RuntimeError:
        return None


def _result(input: Tensor, logits: Tensor, shape: tuple[int, ...], options: tuple) -> Tensor:
    """Do the operator on plain CPU tensors. A call that no derivative will be asked of computes no log-sum-exp, which
    derivatives alone read: in a small window it takes a tenth of the time."""
    # What is traced serves calls with derivatives as well.
    derived = torch.is_grad_enabled() or torch_private.in_forward_mode() or torch.jit.is_tracing()
    bytes_ = input.element_size() * math.prod(shape)
    if derived or not input.is_contiguous() or bytes_ >= _KEPT_BYTES:
        return ops.COMPILED.forward(input, logits, *options)[0]
    out = input.new_empty(shape)
    _INTO(input, logits, out, *options)
    return out


def _runs_at_once(first: Tensor, second: Tensor) -> bool:
    """Return True for plain tensors on a CPU, outside compilers and exporters."""
    return (
        not (torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export())
        and type(first) in _TENSORS
        and type(second) in _TENSORS
        and first.is_cpu
        and second.is_cpu
    )
