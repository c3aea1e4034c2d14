"""A pretended device: what forgets to move a tensor fails on it as on a GPU, and every number is the CPU's.

Inside :func:`elsewhere` tensors can be sent to the device ``"meta"``, where each keeps its values in a CPU tensor. An
operator refuses tensors of both devices together, and ``.numpy()`` fails, as on a GPU.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = "meta"


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device; ``held`` are its values."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    device = kwargs.get("device")
    if func is torch.ops.aten._to_copy.default and device is not None:
        kwargs = {**kwargs, "device": "cpu"}
        there = torch.device(device).type == DEVICE
    else:
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
        kinds = {isinstance(tensor, Elsewhere) for tensor in tensors if tensor.ndim or isinstance(tensor, Elsewhere)}
        # Copies between devices are allowed, and so are indices on the CPU.
        copies = (torch.ops.aten.copy_.default, torch.ops.aten.index.Tensor)
        if len(kinds) > 1 and func not in copies:
            raise RuntimeError(f"expected all tensors of {func} on one device, got some on the CPU and some elsewhere")
        there = isinstance(args[0], Elsewhere) if func in copies and tensors else True in kinds
        if device is not None:
            kwargs, there = {**kwargs, "device": "cpu"}, torch.device(device).type == DEVICE
    held = tree_map_only(Elsewhere, lambda tensor: tensor.held, (args, kwargs))
    out = func(*held[0], **held[1])
    if not there:
        return out
    if func._schema.is_mutable:
        return kwargs.get("out", args[0])
    # Autograd refuses views of parameters that are inference tensors of a subclass.
    with torch.inference_mode(False):
        return tree_map_only(torch.Tensor, Elsewhere, out)


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # In inference mode operators such as Tensor.to come undivided.
        if torch.is_inference_mode_enabled() and func in (torch.ops.aten.to.device, torch.ops.aten.to.other):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


@contextmanager
def elsewhere():
    """Inside the block the device :data:`DEVICE` holds values."""
    with _Mode():
        yield
