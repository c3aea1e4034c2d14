"""All private names of torch that `svconv` uses: none of them has a public counterpart.

`torch.library.register_autograd` and `register_autocast` would need none, but the first refuses `torch.func` and
drops forward-mode derivatives, the second casts to a dtype that is fixed when it is registered. What each name does is
checked by tests/svconv/test_svconv_torch_names.py, which runs under any torch.
"""

from collections.abc import Callable, Mapping
from importlib import import_module

import torch

# torch.func lets a Function be applied below its own interpretation only within this guard.
from torch._functorch.utils import enable_single_level_autograd_function

# `is_fake` sees fake tensors inside functional ones too, which isinstance misses.
from torch._subclasses.fake_tensor import is_fake
from torch.autograd import forward_ad

# The Function of a single level, which is torch.autograd.Function without the interpretation by torch.func.
from torch.autograd.function import _SingleLevelFunction as SingleLevelFunction

# Calls within the guard skip autograd, which is what runs.
AutoDispatchBelowAutograd = torch._C._AutoDispatchBelowAutograd
# The dispatch keys that are left below autograd, and below the counting of in-place changes, for `redispatch`.
after_autograd = torch._C._after_autograd_keyset
after_inplace = torch._C._after_ADInplaceOrView_keyset
# Tangents are carried on within a Function's forward and jvp, where torch switches them off.
set_forward_gradients = forward_ad._set_fwd_grad_enabled
# The module whose function gives torch.onnx the table that it decomposes the operators of an exported program by.
ONNX_TABLE = "torch.onnx._internal.exporter._decomp"


def in_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is open, which torch has no public way to ask."""
    return forward_ad._current_level >= 0


def without_autocast_key(dispatch_key: str) -> torch._C._ExcludeDispatchKeyGuard:
    """Return a guard under which calls skip one autocast key, "AutocastCPU" or "AutocastCUDA", while all other keys
    stay on."""
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, dispatch_key)))


def decompose_for_onnx(decompositions: Mapping[torch._ops.OpOverload, Callable]) -> None:
    """Add decompositions to the table of `ONNX_TABLE`, and to no other.

    torch.onnx also reads `torch._decomp.decomposition_table`. There fake tensors and Inductor would find the operator
    as well, which Inductor refuses if the environment sets `CI`.
    """
    module = import_module(ONNX_TABLE)
    table_without = module.create_onnx_friendly_decomposition_table

    def table(*args, **kwargs):
        return {**table_without(*args, **kwargs), **decompositions}

    module.create_onnx_friendly_decomposition_table = table


def compiled_autograd_key(ctx) -> tuple:
    """Return the key of a node in compiled autograd's cache, which only torch.autograd.Function has."""
    return (ctx._autograd_function_id,)


__all__ = [
    "AutoDispatchBelowAutograd",
    "SingleLevelFunction",
    "after_autograd",
    "after_inplace",
    "compiled_autograd_key",
    "ONNX_TABLE",
    "decompose_for_onnx",
    "enable_single_level_autograd_function",
    "in_forward_mode",
    "is_fake",
    "set_forward_gradients",
    "without_autocast_key",
]
