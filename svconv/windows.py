"""Which pixels a window reads (borders, order of taps, scale), and how any window is computed by kernels for plain
ones.

No other file in Python knows borders. Everything consists of slices put side by side, so it can be differentiated any
number of times, compiled and exported, and its sums repeat bit for bit. Rows and columns are alike: tap (u, v) reads
row `reads(..., dim=-2)[u]` of column `reads(..., dim=-1)[v]`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from svconv.checks import PLAIN_PADDING_MODES
from svconv.layout import in_order


def is_plain(*, padding_mode: str, taps: str, scale: int, **_) -> bool:
    """Whether these are plain windows, which every backend's kernels read."""
    return padding_mode in PLAIN_PADDING_MODES and taps == "convolution" and scale == 1


def reads(
    input: Tensor, dim: int, kernel_size: int, dilation: int, padding_mode: str, taps: str, scale: int
) -> list[Tensor]:
    """Return what each of K taps along a dimension, rows (-2) or columns (-1), reads for every place of the result.

    They are K tensors of the shape of `input`, but `scale` times as long in `dim`, with zeros outside the frame if the
    padding mode names no pixel there. For a shifted window the frame must be as large as the window, for a mirrored one
    (`reflect`) larger than its radius: `svconv.checks.check_frame`.
    """
    reach, margin = dilation * (kernel_size - 1), dilation * (kernel_size // 2)
    # Ends are counted from the back of the frame, which leaves no arithmetic on sizes in an exported graph.
    if padding_mode == "shift":
        each = [_shifted(input, dim, dilation * tap, reach, dilation) for tap in range(kernel_size)]
    else:
        padded = _pad(input, dim, margin, padding_mode)
        each = [_cut(padded, dim, dilation * tap, dilation * tap - reach) for tap in range(kernel_size)]
    if taps == "convolution":
        each.reverse()
    return [repeat(read, dim, scale) for read in each]


def reads_transposed(
    grads: list[Tensor], dim: int, kernel_size: int, dilation: int, padding_mode: str, taps: str, scale: int
) -> Tensor:
    """The transpose of `reads`: sum, for every pixel, what its readers have in `grads`, over taps and places."""
    reach, margin = dilation * (kernel_size - 1), dilation * (kernel_size // 2)
    if scale > 1:
        axis = dim + grads[0].ndim
        grads = [grad.unflatten(axis, (-1, scale)).sum(axis + 1) for grad in grads]
    if taps == "convolution":
        grads = grads[::-1]
    if padding_mode == "shift":
        grads = [_shifted_transposed(grad, dim, dilation, margin) for grad in grads]
    padded = sum(_zeros_around(grad, dim, dilation * tap, reach - dilation * tap) for tap, grad in enumerate(grads))
    return padded if padding_mode == "shift" else _pad_transposed(padded, dim, margin, padding_mode)


def _shifted_transposed(grad: Tensor, dim: int, dilation: int, margin: int) -> Tensor:
    """Bring what one tap of a shifted window has in `grad` to the pixels that it reads."""
    if margin == 0:
        return grad
    axis = dim + grad.ndim
    first, last = (
        _cut(grad, dim, *ends).unflatten(axis, (-1, dilation)).sum(axis) for ends in ((0, margin), (-margin, 0))
    )
    inner = _cut(grad, dim, margin, -margin)
    inner = inner + torch.cat([first, torch.zeros_like(_cut(inner, dim, dilation, 0))], dim)
    return inner + torch.cat([torch.zeros_like(_cut(inner, dim, 0, -dilation)), last], dim)


def _pad_transposed(padded: Tensor, dim: int, margin: int, padding_mode: str) -> Tensor:
    if margin == 0:
        return padded
    before, inner, after = (_cut(padded, dim, *ends) for ends in ((0, margin), (margin, -margin), (-margin, 0)))
    if padding_mode == "reflect":
        before, after, size, edge = before.flip(dim), after.flip(dim), margin + 1, 1
    elif padding_mode == "replicate":
        before, after, size, edge = before.sum(dim, keepdim=True), after.sum(dim, keepdim=True), 1, 0
    else:
        return inner
    before, after = _zeros_around(before, dim, edge, 0), _zeros_around(after, dim, 0, edge)
    inner = inner + torch.cat([before, torch.zeros_like(_cut(inner, dim, size, 0))], dim)
    return inner + torch.cat([torch.zeros_like(_cut(inner, dim, 0, -size)), after], dim)


def _zeros_around(input: Tensor, dim: int, before: int, after: int) -> Tensor:
    return F.pad(input, (before, after) if dim == -1 else (0, 0, before, after))


def _shifted(input: Tensor, dim: int, offset: int, reach: int, dilation: int) -> Tensor:
    """Return what one tap of a shifted window reads; the tap is `offset` pixels after the first one of the window.

    Within `reach // 2` of a border the window of every pixel is the first, or the last, that lies in the frame; each
    residue class of the dilation is a frame of its own.
    """
    first = _cut(input, dim, offset, offset + dilation)
    last = _cut(input, dim, offset - reach - dilation, offset - reach)
    borders = reach // 2 // dilation
    return torch.cat([first] * borders + [_cut(input, dim, offset, offset - reach)] + [last] * borders, dim)


def _pad(input: Tensor, dim: int, margin: int, padding_mode: str) -> Tensor:
    if margin == 0:
        return input
    if padding_mode == "reflect":
        before, after = (_cut(input, dim, *ends).flip(dim) for ends in ((1, margin + 1), (-margin - 1, -1)))
    elif padding_mode == "replicate":
        before, after = (_cut(input, dim, *ends) for ends in ((0, 1), (-1, 0)))
        shape = [-1] * input.ndim
        shape[dim] = margin
        before, after = before.expand(shape), after.expand(shape)
    else:
        return _zeros_around(input, dim, margin, margin)
    return torch.cat([before, input, after], dim)


def _cut(input: Tensor, dim: int, begin: int, end: int) -> Tensor:
    """Return the part [begin, end) of rows or columns. Negative ends count from the back, and an end of 0 is the
    back."""
    part = slice(begin, end or None)
    return input[..., part] if dim == -1 else input[..., part, :]


def repeat(input: Tensor, dim: int, times: int) -> Tensor:
    """Repeat every row or column `times` times, one after another."""
    if times == 1:
        return input
    dim += input.ndim
    shape = [-1] * (input.ndim + 1)
    shape[dim + 1] = times
    return input.unsqueeze(dim + 1).expand(shape).flatten(dim, dim + 1)


def unfold(input: Tensor, **window) -> Tensor:
    """Return what every tap of every pixel of the result reads: (N, C, H, W) -> (N, C, K*K, scale * H, scale * W)."""
    rows = torch.stack(reads(input, -2, **window), -3)
    return torch.stack(reads(rows, -1, **window), -3).flatten(-4, -3)


def taps_inside(height: int, width: int, device: torch.device, **window) -> Tensor:
    """Whether each tap reads inside the frame, bool (K*K, scale * H, scale * W), for windows that may read outside
    it."""
    rows, columns = (
        torch.stack(reads(torch.ones(shape, dtype=torch.bool, device=device), dim, **window))
        for dim, shape in ((-2, (height, 1)), (-1, (1, width)))
    )
    return (rows[:, None] & columns[None]).flatten(0, 1)


def flip_taps(logits: Tensor, groups: int) -> Tensor:
    """Turn logits (N, groups * K*K, H, W) of a correlation into those of the convolution, or back."""
    n, channels, h, w = logits.shape
    return logits.reshape(n, groups, channels // groups, h, w).flip(2).reshape(logits.shape)


def groups_first(logits: Tensor, groups: int) -> Tensor:
    """Turn logits (N, K*K * groups, H, W), whose channels count taps first, into (N, groups * K*K, H, W); with one
    group without a copy."""
    return _exchanged(logits, logits.shape[1] // groups, groups)


def taps_first(logits: Tensor, groups: int) -> Tensor:
    """The inverse of `groups_first`."""
    return _exchanged(logits, groups, logits.shape[1] // groups)


def _exchanged(logits: Tensor, first: int, second: int) -> Tensor:
    n, channels, h, w = logits.shape
    return logits.reshape(n, first, second, h, w).transpose(1, 2).reshape(n, channels, h, w)


def to_images(fine: Tensor, scale: int) -> Tensor:
    """Make an image of the pixels at each place of a cell: (N, C, scale * H, scale * W) -> (N * scale**2, C, H, W)."""
    n, c, h, w = fine.shape
    cells = fine.reshape(n, c, h // scale, scale, w // scale, scale).permute(0, 3, 5, 1, 2, 4)
    return cells.reshape(n * scale**2, c, h // scale, w // scale)


def from_images(images: Tensor, scale: int) -> Tensor:
    """The inverse of `to_images`."""
    n, c, h, w = images.shape
    cells = images.reshape(n // scale**2, scale, scale, c, h, w).permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(n // scale**2, c, scale * h, scale * w)


def repeat_images(coarse: Tensor, scale: int) -> Tensor:
    """Repeat images once for each place of a cell: (N, C, H, W) -> (N * scale**2, C, H, W); one image without a
    copy."""
    n, c, h, w = coarse.shape
    return coarse.unsqueeze(1).expand(n, scale**2, c, h, w).reshape(n * scale**2, c, h, w)


def to_pixels(cells: Tensor, scale: int) -> Tensor:
    """Turn the channels that stand for a cell's places into its pixels: (N, C * scale**2, H, W) becomes
    (N, C, scale * H, scale * W)."""
    return from_images(cells_to_images(cells, scale), scale)


def to_cells(fine: Tensor, scale: int) -> Tensor:
    """Do the inverse of `to_pixels`."""
    n, c, h, w = fine.shape
    cells = fine.reshape(n, c, h // scale, scale, w // scale, scale).permute(0, 1, 3, 5, 2, 4)
    return cells.reshape(n, c * scale**2, h // scale, w // scale)


def cells_to_images(cells: Tensor, scale: int) -> Tensor:
    """Make an image of each place of a cell, as `to_images` does of their pixels; for one image nothing is copied."""
    n, channels, h, w = cells.shape
    places = cells.reshape(n, channels // scale**2, scale**2, h, w).transpose(1, 2)
    return places.reshape(n * scale**2, channels // scale**2, h, w)


def svconv2d(
    plain: Callable, exact: Callable, input: Tensor, logits: Tensor, *, cells: bool = False, **options
) -> Tensor:
    """Do any svconv2d by means of `plain`, which takes plain windows, and `exact`, which takes any windows, for thin
    frames. With `cells` the logits are those of `to_cells`, which no public function takes."""
    groups, scale, padding_mode = options["groups"], options["scale"], options["padding_mode"]
    if scale > 1:
        input, logits = repeat_images(input, scale), (cells_to_images if cells else to_images)(logits, scale)
    if options["taps"] == "correlation":
        logits = flip_taps(logits, groups)
    options = {**options, "taps": "convolution", "scale": 1}
    if padding_mode in PLAIN_PADDING_MODES:
        out = plain(input, logits, **options)
    else:
        out = _framed(plain, exact, input, logits, options)
    return from_images(out, scale) if scale > 1 else out


def correlation2d(plain: Callable, exact: Callable, query: Tensor, key: Tensor, **options) -> Tensor:
    """Do any correlation2d by means of `plain`, which takes plain windows, and `exact`, which takes any windows, for
    thin frames."""
    scale, taps = options["scale"], options["taps"]
    inner = {**options, "taps": "convolution", "scale": 1}
    if scale > 1:
        query, key = to_images(query, scale), repeat_images(key, scale)
    if options["padding_mode"] in PLAIN_PADDING_MODES:
        out = plain(query, key, **inner)
    else:
        out = _framed(plain, exact, query, key, inner)
    out = from_images(out, scale) if scale > 1 else out
    return flip_taps(out, options["groups"]) if taps == "correlation" else out


def _is_known(condition: bool) -> bool:
    """Return the condition; in an export, for which sizes may be symbols, False if it doesn't hold for all of them.

    An exported program has no branches: asking for the condition would leave the program the sizes alone for which the
    answer is the same.
    """
    if not torch.compiler.is_exporting():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)


def _framed(plain: Callable, exact: Callable, first: Tensor, second: Tensor, options: dict) -> Tensor:
    """Compute the interior, whose windows never leave the frame, by `plain`, and a border as wide as the window's
    radius by `exact`.

    The result near a border depends only on the pixels within one window's size of it, so that each of the four sides
    is the border of a smaller problem.
    """
    size, margin = (options["dilation"] * k for k in (options["kernel_size"], options["kernel_size"] // 2))

    def thin(first: Tensor, second: Tensor) -> Tensor:
        return in_order(exact(in_order(first), in_order(second), **options))

    if margin == 0:
        return plain(first, second, **{**options, "padding_mode": "zeros"})
    # In an export a side of the window's own size would be a case by itself: there the parts below are the whole frame.
    least = size if torch.compiler.is_exporting() else 2 * margin
    if not all(_is_known(side > least) for side in first.shape[-2:]):
        return thin(first, second)
    inner = plain(first, second, **{**options, "padding_mode": "zeros"})

    def side(dim: int, part: tuple[int, int], kept: tuple[int, int]) -> Tensor:
        return _cut(thin(_cut(first, dim, *part), _cut(second, dim, *part)), dim, *kept)

    top, bottom, left, right = (
        side(dim, part, kept)
        for dim in (-2, -1)
        for part, kept in (((0, size), (0, margin)), ((-size, 0), (-margin, 0)))
    )
    rows = [_cut(part, -2, margin, -margin) for part in (left, _cut(inner, -1, margin, -margin), right)]
    return torch.cat([top, torch.cat(rows, -1), bottom], -2)
