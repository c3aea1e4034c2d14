"""How tensors lie in memory: in the order that sums are rounded by, and in that of another tensor."""

import torch
from torch import Tensor


def in_order(input: Tensor) -> Tensor:
    """Return the tensor with its numbers in NCHW order, in which its gradients of any order come as well.

    PyTorch's sums and exponentials round by the strides of what they are given, and then by the number of threads too.
    """
    # A compiler makes kernels of its own, and sizes that are symbols would get conditions from the strides.
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return input
    return input.reshape(-1).reshape(input.shape)


def like(input: Tensor, out: Tensor) -> Tensor:
    """Return the result in the memory format of the input, as the kernels write it."""
    channels_last = input.stride(1) == 1 and input.shape[1] > 1
    return out.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
