"""The operators in PyTorch's own operators, which ONNX can express: one shifted slice of the input for each tap.

Unlike `svconv.reference` it never unfolds the input, so an exported model runs in a few times the memory of its input.
`svconv2d` and `correlation2d` stand in while a module is exported; `forward`, `grad_input` and `grad_weight` are what
the raw operators of a program that has been exported are decomposed into (`svconv.ops`), with their arguments.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from svconv.weights import accumulation_type, by_tap, softmax, softmax_jacobian, with_excluded


def svconv2d(
    input: Tensor,
    logits: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    normalize: bool = True,
    padding_mode: str = "zeros",
) -> Tensor:
    """Same contract as `svconv.svconv2d`, without its checks. Any device, differentiable any number of times."""
    c = input.shape[1]
    if normalize:
        weights = softmax(logits, kernel_size, dilation, groups, padding_mode == "renormalize")
    else:
        weights = by_tap(logits, groups)
    out = 0
    for tap, read in enumerate(_reads(input, kernel_size, dilation)):
        out = out + weights[:, :, tap, None] * read.unflatten(1, (groups, c // groups))
    return out.flatten(1, 2).to(input.dtype)


def correlation2d(query: Tensor, key: Tensor, *, kernel_size: int = 9, dilation: int = 1, groups: int = 1) -> Tensor:
    """Same contract as `svconv.correlation2d`, without its checks. Any device, differentiable any number of times."""
    split = groups, query.shape[1] // groups
    products = [(query * read).unflatten(1, split).sum(2) for read in _reads(key, kernel_size, dilation)]
    return torch.stack(products, 2).flatten(1, 2).to(query.dtype)


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
    """The result, and the log-sum-exp of the logits over the taps: (N, groups, H, W), or (0,) without softmax."""
    padding_mode = "renormalize" if renormalize else "zeros"
    options = {"kernel_size": kernel_size, "dilation": dilation, "groups": groups, "normalize": normalize}
    out = svconv2d(input, logits, **options, padding_mode=padding_mode)
    if not normalize:
        return out, input.new_empty((0,), dtype=accumulation_type(input.dtype))
    return out, with_excluded(logits, kernel_size, dilation, groups, renormalize).logsumexp(dim=2)


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
    """The gradient by the input; `lse` is not read."""
    weights = softmax(logits, kernel_size, dilation, groups, renormalize) if normalize else by_tap(logits, groups)
    grads = grad_out.to(weights.dtype).unflatten(1, (groups, grad_out.shape[1] // groups))
    result = 0
    for tap in range(kernel_size * kernel_size):
        # What pixel (i, j) read at (i - d*u, j - d*v) comes back from (y + d*u, x + d*v).
        down, right = (dilation * (offset - kernel_size // 2) for offset in divmod(tap, kernel_size))
        result = result + F.pad(weights[:, :, tap, None] * grads, (-right, right, -down, down))
    return result.flatten(1, 2).to(grad_out.dtype)


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
    """The gradient by the logits, or without softmax by the weights; `lse` is not read."""
    grads = grad_out.to(accumulation_type(grad_out.dtype))
    by_weights = correlation2d(grads, input, kernel_size=kernel_size, dilation=dilation, groups=groups)
    if not normalize:
        return by_weights.to(logits.dtype)
    return softmax_jacobian(logits, by_weights, kernel_size, dilation, groups, renormalize)


def _reads(input: Tensor, kernel_size: int, dilation: int) -> Iterator[Tensor]:
    """The numbers that each tap reads, in the accumulation type and the shape of `input`: zero outside the frame."""
    margin = dilation * (kernel_size // 2)
    padded = F.pad(input.to(accumulation_type(input.dtype)), (margin,) * 4)
    for tap in range(kernel_size * kernel_size):
        # At (i - d*u, j - d*v) in the frame: a convolution counts its offsets backwards. Padding by less than nothing
        # crops, and unlike slicing leaves no arithmetic on sizes in an exported graph.
        top, left = (2 * margin - dilation * offset for offset in divmod(tap, kernel_size))
        yield F.pad(padded, (-left, left - 2 * margin, -top, top - 2 * margin))
