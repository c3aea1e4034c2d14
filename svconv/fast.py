"""The short way to the operator for calls in a hot loop: checks that cost microseconds are left to the operator
itself."""

import torch
from torch import Tensor

from svconv import ops
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
    other call, and for a wrong one.

    The operator refuses what doesn't fit without naming a mend. A caller that gets None takes the long way, which names
    it.
    """
    if (
        torch.compiler.is_compiling()
        or torch.onnx.is_in_onnx_export()
        or type(input) not in _TENSORS
        or type(logits) not in _TENSORS
        or not (input.is_cpu and logits.is_cpu)
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
