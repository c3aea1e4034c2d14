"""The short way to the operator for calls in a hot loop: checks that cost microseconds are left to the operator
itself.

The operator refuses what doesn't fit without naming a mend. A caller that gets None takes the long way, which names it.
"""

import torch
from torch import Tensor

from svconv import checks, ops
from svconv.precision import asks_for_tf32

_TENSORS = (Tensor, torch.nn.Parameter)
_INTO = torch.ops.svconv.forward_into.default


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
            return ops.COMPILED.forward(input, logits, *options)[0]
        if type(out) is not Tensor or torch.is_grad_enabled():
            return None
        _INTO(input, logits, out, *options)
        return out
    except RuntimeError:
        return None


def convex_upsample(flow: Tensor, mask: Tensor, factor: int) -> Tensor | None:
    """Do `svconv.compat.convex_upsample` on plain CPU tensors; return None for any other call, and for a wrong one."""
    if not _runs_at_once(flow, mask) or type(factor) is not int or factor < 1 or mask.ndim != 4:
        return None
    kernel_size = checks.odd_root(mask.shape[1] // factor**2)
    window = ops.raw_window("zeros", "correlation", factor, cells=True)
    try:
        return ops.COMPILED.forward(flow, mask, kernel_size, 1, 1, True, False, False, *window)[0]
    except RuntimeError:
        return None


def _runs_at_once(first: Tensor, second: Tensor) -> bool:
    """Return True for plain tensors on a CPU, outside compilers and exporters."""
    return (
        not (torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export())
        and type(first) in _TENSORS
        and type(second) in _TENSORS
        and first.is_cpu
        and second.is_cpu
    )
