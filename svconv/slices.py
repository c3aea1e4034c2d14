"""The operators in PyTorch's own operators, which ONNX can express: one shifted slice of the input for each tap.

Unlike `svconv.reference` it never unfolds the input, so an exported model runs in a few times the memory of its input.
`svconv2d` and `correlation2d` stand in while a module is exported; `forward`, `grad_input` and `grad_weight` are what
the raw operators of a program that has been exported are decomposed into (`svconv.ops`), with their arguments.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from svconv import windows
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
    taps: str = "convolution",
    scale: int = 1,
) -> Tensor:
    """Compute `svconv.svconv2d` without its checks, on any device; it can be differentiated any number of times."""
    c = input.shape[1]
    if normalize:
        renormalize = padding_mode == "renormalize"
        weights = softmax(logits, kernel_size, dilation, groups, renormalize, taps=taps, scale=scale)
    else:
        weights = by_tap(logits, groups)
    out = 0
    for tap, read in enumerate(_reads(input, kernel_size, dilation, padding_mode, taps, scale)):
        out = out + weights[:, :, tap, None] * read.unflatten(1, (groups, c // groups))
    return out.flatten(1, 2).to(input.dtype)


def correlation2d(
    query: Tensor,
    key: Tensor,
    *,
    kernel_size: int = 9,
    dilation: int = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    taps: str = "convolution",
    scale: int = 1,
) -> Tensor:
    """Compute `svconv.correlation2d` without its checks, on any device; it can be differentiated any number of
    times."""
    split = groups, query.shape[1] // groups
    reads = _reads(key, kernel_size, dilation, padding_mode, taps, scale)
    # Once, not tap by tap: so is the sum of the taps' gradients, which rounds once.
    exact = query.to(accumulation_type(query.dtype))
    products = [(exact * read).unflatten(1, split).sum(2) for read in reads]
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
    border: int = 0,
    correlation: bool = False,
    scale: int = 1,
    cells: bool = False,
) -> tuple[Tensor, Tensor]:
    """The result, and the log-sum-exp of the logits over the taps: (N, groups, H, W), or (0,) without softmax."""
    if cells:
        logits = windows.to_pixels(logits, scale)
    options = {"kernel_size": kernel_size, "dilation": dilation, "groups": groups, "normalize": normalize}
    padding_mode, window = _window(renormalize, border, correlation, scale)
    out = svconv2d(input, logits, **options, padding_mode=padding_mode, **window)
    if not normalize:
        return out, input.new_empty((0,), dtype=accumulation_type(input.dtype))
    lse = with_excluded(logits, kernel_size, dilation, groups, renormalize, **window).logsumexp(dim=2)
    return out, windows.to_cells(lse, scale) if cells else lse


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
    border: int = 0,
    correlation: bool = False,
    scale: int = 1,
    cells: bool = False,
) -> Tensor:
    """The gradient by the input; `lse` is not read."""
    if cells:
        logits = windows.to_pixels(logits, scale)
    # Not torch.func.vjp: a decomposition is traced below the wrappers of functorch.
    padding_mode, options = _window(renormalize, border, correlation, scale)
    if normalize:
        weights = softmax(logits, kernel_size, dilation, groups, renormalize, **options)
    else:
        weights = by_tap(logits, groups)
    grads = grad_out.to(weights.dtype).unflatten(1, (groups, grad_out.shape[1] // groups))
    window = kernel_size, dilation, padding_mode, options["taps"], scale
    rows = []
    for first in range(0, kernel_size**2, kernel_size):
        columns = [(weights[:, :, first + v, None] * grads).flatten(1, 2) for v in range(kernel_size)]
        rows.append(windows.reads_transposed(columns, -1, *window))
    return windows.reads_transposed(rows, -2, *window).to(grad_out.dtype)


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
    border: int = 0,
    correlation: bool = False,
    scale: int = 1,
    cells: bool = False,
) -> Tensor:
    """The gradient by the logits, or without softmax by the weights; `lse` is not read."""
    if cells:
        fine = windows.to_pixels(logits, scale)
        options = kernel_size, dilation, groups, normalize, renormalize, tf32, border, correlation, scale
        return windows.to_cells(grad_weight(grad_out, input, fine, lse, *options), scale)
    grads = grad_out.to(accumulation_type(grad_out.dtype))
    options = {"kernel_size": kernel_size, "dilation": dilation, "groups": groups}
    padding_mode, window = _window(renormalize, border, correlation, scale)
    by_weights = correlation2d(grads, input, **options, padding_mode=padding_mode, **window)
    if not normalize:
        return by_weights.to(logits.dtype)
    return softmax_jacobian(logits, by_weights, kernel_size, dilation, groups, renormalize, **window)


def _window(renormalize: bool, border: int, correlation: bool, scale: int) -> tuple[str, dict[str, object]]:
    """Return the padding mode of raw arguments, and their order of taps and scale."""
    # The numbers of csrc/problem.h.
    padding_mode = ("renormalize" if renormalize else "zeros", "shift", "reflect", "replicate")[border]
    return padding_mode, {"taps": "correlation" if correlation else "convolution", "scale": scale}


def _reads(
    input: Tensor, kernel_size: int, dilation: int, padding_mode: str, taps: str, scale: int
) -> Iterator[Tensor]:
    """Return the numbers that each tap reads, in the accumulation type and the shape of the result: zero outside the
    frame."""
    window = kernel_size, dilation, padding_mode, taps, scale
    for rows in windows.reads(input.to(accumulation_type(input.dtype)), -2, *window):
        yield from windows.reads(rows, -1, *window)
