"""Loads the compiled operators and explains them to PyTorch: fake kernels, autograd, autocast.

Three products, each with raw schema arguments `(kernel_size, dilation, groups, normalize, renormalize)`:
`torch.ops.svconv.forward`, `grad_input`, `grad_weight`. With `normalize=False` the logits are the weights.
"""

from pathlib import Path

import torch
from torch import Tensor

torch.ops.load_library(str(Path(__file__).with_name("svconv_ops.so")))

_forward = torch.ops.svconv.forward.default
_grad_input = torch.ops.svconv.grad_input.default
_grad_weight = torch.ops.svconv.grad_weight.default


def forward(
    input: Tensor,
    logits: Tensor,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    renormalize: bool = False,
) -> Tensor:
    """The operator without argument checks or choice of backend, for inference code in a hot loop.

    Shapes and dtypes as in `svconv.svconv2d`; wrong ones raise a bare `RuntimeError`. Under
    `torch.inference_mode()` the call reaches the kernel without passing through autograd.
    """
    return _forward(input, logits, kernel_size, dilation, groups, normalize, renormalize)[0]


def _accumulation_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@torch.library.register_fake("svconv::forward")
def _(input, logits, kernel_size, dilation, groups, normalize, renormalize):
    n, _, h, w = input.shape
    shape = (n, groups, h, w) if normalize else (0,)
    return torch.empty_like(input), input.new_empty(shape, dtype=_accumulation_type(input.dtype))


@torch.library.register_fake("svconv::grad_input")
def _(grad_out, logits, lse, kernel_size, dilation, groups, normalize, renormalize):
    return torch.empty_like(grad_out)


@torch.library.register_fake("svconv::grad_weight")
def _(grad_out, input, logits, lse, kernel_size, dilation, groups, normalize, renormalize):
    return torch.empty_like(logits)


def _setup_context(ctx, inputs, output):
    input, logits, *ctx.options = inputs
    _, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)
    needs_input, needs_logits = ctx.needs_input_grad[:2]
    # Saved logits and log-sum-exp give the weights back; input is needed for the weights' gradient only.
    ctx.save_for_backward(input if needs_logits else None, logits if needs_input or needs_logits else None, lse)


def _backward(ctx, grad_out, _):
    no_options = (None,) * len(ctx.options)
    if grad_out is None:
        return None, None, *no_options
    input, logits, lse = ctx.saved_tensors
    needs_input, needs_logits = ctx.needs_input_grad[:2]
    grad_input = _grad_input(grad_out, logits, lse, *ctx.options) if needs_input else None
    grad_logits = _grad_weight(grad_out, input, logits, lse, *ctx.options) if needs_logits else None
    return grad_input, grad_logits, *no_options


torch.library.register_autograd("svconv::forward", _backward, setup_context=_setup_context)


def _no_double_backward(ctx, grad):
    raise NotImplementedError(
        "svconv2d: expected to be differentiated once, got a second derivative (create_graph=True); "
        'use backend="reference" for that'
    )


torch.library.register_autograd("svconv::grad_input", _no_double_backward)
torch.library.register_autograd("svconv::grad_weight", _no_double_backward)


_library = torch.library.Library("svconv", "FRAGMENT")


def _register_autocast(device_type: str, dispatch_key: str) -> None:
    """Runs `forward` in the autocast dtype: it accumulates and takes its softmax in float32 whatever it reads."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, dispatch_key))

    def autocast_forward(input, logits, *options):
        dtype = torch.get_autocast_dtype(device_type)
        cast = [t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in (input, logits)]
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return _forward(*cast, *options)

    _library.impl("forward", autocast_forward, dispatch_key)


_register_autocast("cpu", "AutocastCPU")
_register_autocast("cuda", "AutocastCUDA")
