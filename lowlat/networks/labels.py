"""Makes label maps at the frame's size from scores at the feature map's size."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def full_size_labels(scores: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Scores ``(N, classes, h, w)`` -> labels, uint8 ``(N, *size)``: bilinear, then the class of the highest score.

    On a CPU most scores that can't be the highest are not interpolated (:func:`_labels_by_cells`). The labels are the
    same, except where scores differ by rounding alone.
    """
    if scores.device.type == "cpu" and size[0] >= scores.shape[-2] and size[1] >= scores.shape[-1]:
        return torch.stack(
            [
                _labels_by_cells(one, *size) if _worth_choosing(one, *size) else static_labels(one[None], size)[0]
                for one in scores.detach().float()
            ]
        )
    return static_labels(scores, size)


def _worth_choosing(scores: Tensor, height: int, width: int) -> bool:
    """Whether :func:`_labels_by_cells` is faster for ``scores`` than interpolating all of them, judged by six rows of
    cells. The constants are times measured on one thread, in units of one interpolated score."""
    classes, h, w = scores.shape
    pixels = height * width / (h * w)
    saved = pixels * (classes + 4) - (35 + 2 * classes + pixels)
    if saved <= 0 or min(h, w) < 2:
        return saved > 0
    step = max(1, h // 6)
    both = torch.stack((scores[:, : h - 1 : step], scores[:, 1::step]))
    lead, low, high = both.max(1).indices, both.amin(0), both.amax(0)
    mixed = (lead[:, :, 1:] != lead[:, :, :-1]).any(0) | (lead[0] != lead[1])[:, 1:]
    lowest = torch.minimum(low[:, :, 1:], low[:, :, :-1]).amax(0)
    may_lead = (torch.maximum(high[:, :, 1:], high[:, :, :-1]) >= lowest) & mixed
    return may_lead.sum().item() * (3.5 * pixels + 50) <= saved * mixed.numel()


def static_labels(scores: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """:func:`full_size_labels` by its definition, every score at full size. No shape depends on the scores, as CUDA
    graphs and compiled stages require."""
    # Channels-last makes both steps walk memory in order, and max gives its indices several times faster than argmax.
    scores = scores.contiguous(memory_format=torch.channels_last)
    scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
    return scores.max(1).indices.to(torch.uint8)


def _labels_by_cells(scores: Tensor, height: int, width: int) -> Tensor:
    """Return the labels of one image: ``(classes, h, w)`` -> uint8 ``(height, width)``, which must not be smaller.

    A cell lies between four neighbouring scores, its corners; bilinear interpolation stays within these. So a class
    that leads at all corners leads in the whole cell, and one whose highest corner is below another's lowest never
    leads. Only classes that may lead are interpolated, and only in cells whose corners disagree.
    """
    classes, h, w = scores.shape
    rows, columns = _axis(h, height), _axis(w, width)
    flat = scores.permute(1, 2, 0).reshape(h * w, classes).contiguous()
    leading = flat.max(1).indices.to(torch.uint8).view(h, w)
    above, below = leading[rows.before], leading[rows.behind]
    first = above[:, columns.before]
    mixed = (first != above[:, columns.behind]) | (first != below[:, columns.before])
    mixed |= first != below[:, columns.behind]
    row, column = mixed.nonzero().unbind(1)
    # Interpolation leaves the range of the corners where scores are NaN or infinite, or differ by more than a float.
    if not flat.abs().max() < 1e37:
        return static_labels(scores[None], (height, width))[0]
    above, below = rows.before[row] * w, rows.behind[row] * w
    left, right = columns.before[column], columns.behind[column]
    corners = (above + left, above + right, below + left, below + right)
    values = [flat[corner] for corner in corners]
    lowest = torch.minimum(torch.minimum(*values[:2]), torch.minimum(*values[2:])).amax(1, keepdim=True)
    may_lead = torch.maximum(torch.maximum(*values[:2]), torch.maximum(*values[2:])) >= lowest
    counts = may_lead.sum(1)
    labels = first[:, columns.cell][rows.cell]
    cell, candidate = may_lead.nonzero().unbind(1)
    rank = torch.arange(len(cell)) - (counts.cumsum(0) - counts)[cell]
    ranked = torch.full((int(rank.max()) + 1 if len(rank) else 0, len(row)), classes - 1)
    ranked[rank, cell] = candidate
    fewer, most = 0, 2
    while fewer < len(ranked):
        # Cells with about as many candidates are computed together, the cells last, side by side in memory.
        chosen = ((counts > fewer) & (counts <= most)).nonzero().squeeze(1)
        candidates, y, x = ranked[:most, chosen], row[chosen], column[chosen]
        a, b, c, d = (flat.view(-1)[corner[chosen] * classes + candidates][:, None] for corner in corners)
        down, across = rows.weight[:, y], columns.weight[:, x]
        left, right = torch.lerp(a, c, down)[:, :, None], torch.lerp(b, d, down)[:, :, None]
        found = _highest(torch.lerp(left, right, across), candidates.to(torch.uint8))
        labels.view(-1)[rows.pixel[:, None, y] * width + columns.pixel[:, x]] = found
        fewer, most = most, 2 * most
    return labels


def _highest(scores: Tensor, candidates: Tensor) -> Tensor:
    """Choose, by scores ``(n, y, x, cells)``, among candidate classes ``(n, cells)``; the first of equals wins."""
    best, found = scores[0], candidates[0].expand(scores.shape[1:])
    for score, candidate in zip(scores[1:], candidates[1:], strict=True):
        found = torch.where(score > best, candidate, found)
        best = torch.maximum(score, best)
    return found


class _Axis(NamedTuple):
    """One axis of the cells. Cell i lies between the scores i - 1 and i; the first and the last cell lie outside of all
    scores, where that at the border is repeated."""

    cell: Tensor
    """The cell of each pixel, int64 ``(pixels,)``."""
    before: Tensor
    """The index of the score before each cell, int64 ``(cells,)``."""
    behind: Tensor
    """The index of the score behind each cell, int64 ``(cells,)``."""
    pixel: Tensor
    """The pixels of each cell, int64 ``(n, cells)``, n being the most of any cell; a cell with fewer repeats its last.
    A first cell without any, on an axis that isn't enlarged, takes the pixel beside it, whose label is the same."""
    weight: Tensor
    """How far each of these pixels is from the score before to the score behind, float32 ``(n, cells)``, in [0, 1)."""


@lru_cache(maxsize=16)
def _axis(scores: int, pixels: int) -> _Axis:
    place = (torch.arange(pixels, dtype=torch.float32) + 0.5) * (scores / pixels) - 0.5
    cell = place.floor().long() + 1
    count = torch.bincount(cell, minlength=scores + 1)
    pixel = count.cumsum(0) - count + torch.minimum(torch.arange(int(count.max()))[:, None], count - 1).clamp(min=0)
    pixel = pixel.clamp(max=pixels - 1)
    cells = torch.arange(scores + 1)
    before, behind = (cells - 1).clamp(min=0), cells.clamp(max=scores - 1)
    return _Axis(cell, before, behind, pixel, (place - place.floor())[pixel])


def scores_on_host(scores: Tensor, size: tuple[int, int] | torch.Size, asked: str) -> np.ndarray:
    """Copy the scores of one image, ``(classes, h, w)``, to a float32 NumPy array: as they are if ``asked`` is "grid",
    interpolated to ``size``, as its labels come from them, if it is "frame"."""
    scores = scores.detach().to("cpu", torch.float32, copy=True)
    if asked == "frame":
        scores = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    return scores.contiguous().numpy()
