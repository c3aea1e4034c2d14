"""The three products in Triton, registered with PyTorch: `torch.ops.svconv.triton_forward`,
`triton_grad_input`, `triton_grad_weight`. Schemas and semantics are those of the compiled ones (`svconv.ops`), and so
are derivatives, vmap, autocast and FLOPs. Importing this imports Triton.
"""

import torch
from torch import Tensor

from svconv import ops
from svconv.triton.launch import INTERPRETED, launch_gradient, launch_sum
from svconv.weights import accumulation_type

TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# The interpreter has no kernel for a compiler to see through to.
_operator = torch.library.custom_op if INTERPRETED else torch.library.triton_op


@_operator("svconv::triton_forward", mutates_args=())
def forward(
    input: Tensor,
    logits: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    renormalize: bool,
    tf32: bool = False,
) -> tuple[Tensor, Tensor]:
    _check("triton_forward", input, logits, kernel_size, groups)
    out, lse = ops.fake_forward(input, logits, kernel_size, dilation, groups, normalize, renormalize)
    launch_sum(input, logits, lse, out, kernel_size, dilation, groups, normalize, renormalize, tf32, False)
    return out, lse


@_operator("svconv::triton_grad_input", mutates_args=())
def grad_input(
    grad_out: Tensor,
    logits: Tensor,
    lse: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    renormalize: bool,
    tf32: bool = False,
) -> Tensor:
    _check("triton_grad_input", grad_out, logits, kernel_size, groups, lse=lse if normalize else None)
    result = torch.empty_like(grad_out)
    options = kernel_size, dilation, groups, normalize, renormalize, tf32
    launch_sum(grad_out, logits, lse.contiguous(), result, *options, True)
    return result


@_operator("svconv::triton_grad_weight", mutates_args=())
def grad_weight(
    grad_out: Tensor,
    input: Tensor,
    logits: Tensor,
    lse: Tensor,
    kernel_size: int,
    dilation: int,
    groups: int,
    normalize: bool,
    renormalize: bool,
    tf32: bool = False,
) -> Tensor:
    _check("triton_grad_weight", input, logits, kernel_size, groups, grad_out, lse if normalize else None)
    result = torch.empty_like(logits)
    options = kernel_size, dilation, groups, normalize, renormalize, tf32
    launch_gradient(grad_out, input, logits, lse.contiguous(), result, *options)
    return result


forward.register_fake(ops.fake_forward)
grad_input.register_fake(ops.fake_grad_input)
grad_weight.register_fake(ops.fake_grad_weight)
PRODUCTS = ops.Products(
    torch.ops.svconv.triton_forward.default,
    torch.ops.svconv.triton_grad_input.default,
    torch.ops.svconv.triton_grad_weight.default,
)
# Each device's own key goes before "Autograd", which the operators come with.
ops.explain_to_pytorch(PRODUCTS, ("AutogradCPU", "AutogradCUDA", "AutogradMeta"))


def _check(
    name: str,
    input: Tensor,
    logits: Tensor,
    kernel_size: int,
    groups: int,
    grad_out: Tensor | None = None,
    lse: Tensor | None = None,
) -> None:
    """Check shapes again, for calls that did not come through svconv2d: wrong ones must not become wrong addresses."""
    n, c, h, w = input.shape
    if input.dtype not in TYPES:
        raise RuntimeError(f"svconv::{name}: expected one of {TYPES}, got {input.dtype=}")
    if kernel_size % 2 == 0 or c % groups:
        raise RuntimeError(
            f"svconv::{name}: expected an odd kernel_size and channels divisible by groups, "
            f"got {kernel_size=}, {groups=}, {input.shape=}"
        )
    for what, tensor, shape, dtype in (
        ("logits", logits, (n, groups * kernel_size**2, h, w), input.dtype),
        ("grad_out", grad_out, (n, c, h, w), input.dtype),
        ("lse", lse, (n, groups, h, w), accumulation_type(input.dtype)),
    ):
        if tensor is not None and (tuple(tensor.shape) != shape or tensor.dtype != dtype):
            raise RuntimeError(
                f"svconv::{name}: expected {what} of shape {shape} and {dtype}, "
                f"got {tuple(tensor.shape)} and {tensor.dtype}"
            )
