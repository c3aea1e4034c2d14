"""The operators by the formulas of docs/operator.md, one table of rows and one of columns: nothing of `svconv` is used.

In float64, differentiable by autograd any number of times.
"""

import torch
from torch import Tensor


def read_positions(size: int, kernel_size: int, dilation: int, padding_mode: str, taps: str, scale: int) -> list[list]:
    """The row that tap u reads for row i of the result, [K][scale * size]; None outside the frame. Columns likewise."""
    r, d, s = kernel_size // 2, dilation, scale
    sign = -1 if taps == "convolution" else 1

    def centre(i: int) -> int:
        if padding_mode != "shift":
            return i
        return min(max(i // d, r), (size - 1 - i % d) // d - r) * d + i % d

    def fold(p: int) -> int | None:
        if padding_mode == "reflect":
            return -p if p < 0 else 2 * (size - 1) - p if p >= size else p
        if padding_mode == "replicate":
            return min(max(p, 0), size - 1)
        return p if 0 <= p < size else None

    return [[fold(centre(i // s) + sign * d * u) for i in range(s * size)] for u in range(-r, r + 1)]


def patches(input: Tensor, **window) -> tuple[Tensor, Tensor]:
    """(N, C, K * K, scale * H, scale * W) that the taps read, zero outside the frame; and bool, which are inside."""
    tables = [read_positions(size, **window) for size in input.shape[2:]]
    rows, columns = (torch.tensor([[-1 if p is None else p for p in tap] for tap in table]) for table in tables)
    k, (h, w) = len(rows), (rows.shape[1], columns.shape[1])
    inside = ((rows >= 0)[:, None, :, None] & (columns >= 0)[None, :, None, :]).reshape(k * k, h, w)
    if 0 in input.shape[2:]:
        return input.sum() + input.new_zeros(*input.shape[:2], k * k, h, w), inside
    index = rows.clamp(min=0)[:, None, :, None], columns.clamp(min=0)[None, :, None, :]
    return input[:, :, index[0], index[1]].flatten(2, 3) * inside, inside


def by_group(logits: Tensor, groups: int, tap_major: bool) -> Tensor:
    """(N, groups, K * K, H, W) of the logits' channels in either order."""
    n, channels, h, w = logits.shape
    if tap_major:
        return logits.reshape(n, channels // groups, groups, h, w).transpose(1, 2)
    return logits.reshape(n, groups, channels // groups, h, w)


def svconv2d(input, logits, *, groups, normalize, tap_major, **window) -> Tensor:
    read, inside = patches(input, **window)
    weights = by_group(logits, groups, tap_major)
    if normalize:
        if window["padding_mode"] == "renormalize":
            weights = weights.masked_fill(~inside, -torch.inf)
        weights = weights.softmax(2)
    n, c, taps, h, w = read.shape
    grouped = read.reshape(n, groups, c // groups, taps, h, w)
    return (grouped * weights[:, :, None]).sum(3).reshape(n, c, h, w)


def correlation2d(query, key, *, groups, tap_major, **window) -> Tensor:
    read, _ = patches(key, **window)
    n, c, taps, h, w = read.shape
    products = (query[:, :, None] * read).reshape(n, groups, c // groups, taps, h, w).sum(2)
    if tap_major:
        products = products.transpose(1, 2)
    return products.reshape(n, groups * taps, h, w)
