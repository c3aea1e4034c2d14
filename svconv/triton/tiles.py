"""Device functions that both kernel families share: which tile a program works on, and where things lie.

A dilated product is dilation**2 undilated ones on interleaved sub-images: pixel (y, x) of sub-image (a, b) is pixel
(a + dilation * y, b + dilation * x) of the frame. Tiles are tiles of a sub-image.

Images and groups are found by 64-bit offsets. Within an image offsets are 64-bit with WIDE, which the launch asks for
unless all of them fit 32, in half the registers.
"""

import triton
import triton.language as tl


@triton.jit
def tile_of_program(groups, channels, height, width, dilation, part, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """image, group, first channel, row, column, sub-image row, sub-image column of this program's tile.

    Tiles of one sub-image come first, so that programs that run together share their halos in the caches.
    """
    program = tl.program_id(0)
    tiles_x = tl.cdiv(tl.cdiv(width, dilation), COLUMNS)
    tiles_y = tl.cdiv(tl.cdiv(height, dilation), ROWS)
    parts = tl.maximum(tl.cdiv(channels, part), 1)
    column = program % tiles_x * COLUMNS
    program = program // tiles_x
    row = program % tiles_y * ROWS
    program = program // tiles_y
    b = program % dilation
    program = program // dilation
    a = program % dilation
    program = program // dilation
    first = program % parts * part
    program = program // parts
    return (program // groups).to(tl.int64), program % groups, first, row, column, a, b


@triton.jit
def index(number, WIDE: tl.constexpr):
    """A number that is about to be multiplied by a stride."""
    return number.to(tl.int64) if WIDE else number


@triton.jit
def position(row, column, a, b, height, width, dilation, WIDE: tl.constexpr):
    """Row and column in the frame of pixels of sub-image (a, b), and whether they lie inside."""
    y, x = a + row * dilation, b + column * dilation
    inside = (row >= 0) & (column >= 0) & (y < height) & (x < width)
    return index(y, WIDE), index(x, WIDE), inside


@triton.jit
def pixels_of_tile(row, column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Row and column of each pixel in its sub-image [1, pixels]."""
    pixel = tl.arange(0, ROWS * COLUMNS)[None, :]
    return row + pixel // COLUMNS, column + pixel % COLUMNS


@triton.jit
def where_taps_read(
    tap, i, j, a, b, height, width, dilation, K: tl.constexpr, REVERSED: tl.constexpr, WIDE: tl.constexpr
):
    """Row and column in the frame of what `tap` [taps, 1] reads for pixels (i, j) [1, pixels]; whether it is there."""
    u, v = tap // K - K // 2, tap % K - K // 2
    # A convolution reads at i - u; its transpose at i + u.
    y, x, inside = position(
        i + u if REVERSED else i - u, j + v if REVERSED else j - v, a, b, height, width, dilation, WIDE
    )
    return y, x, inside & (tap < K * K)


@triton.jit
def log_sum_exp(
    own_ptr, logits_c, i, j, inside, a, b, height, width, dilation, number: tl.constexpr,
    K: tl.constexpr, RENORMALIZE: tl.constexpr, WIDE: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """The log-sum-exp over the taps of pixels (i, j), whose first logits are at `own_ptr`; all [1, pixels]."""
    highest = tl.full(i.shape, float("-inf"), number)
    for t in range(0, K * K, TAPS):
        tap = t + tl.arange(0, TAPS)[:, None]
        mask = inside & (tap < K * K)
        if RENORMALIZE:
            mask &= where_taps_read(tap, i, j, a, b, height, width, dilation, K, False, WIDE)[2]
        logit = tl.load(own_ptr + index(tap, WIDE) * logits_c, mask, float("-inf")).to(number)
        highest = tl.maximum(highest, tl.max(logit, 0, keep_dims=True))
    total = tl.zeros_like(highest)
    for t in range(0, K * K, TAPS):
        tap = t + tl.arange(0, TAPS)[:, None]
        mask = inside & (tap < K * K)
        if RENORMALIZE:
            mask &= where_taps_read(tap, i, j, a, b, height, width, dilation, K, False, WIDE)[2]
        logit = tl.load(own_ptr + index(tap, WIDE) * logits_c, mask, float("-inf")).to(number)
        total += tl.sum(tl.exp(logit - highest), 0, keep_dims=True)
    return highest + tl.log(total)


@triton.jit
def exponential(logit, lse, NORMALIZE: tl.constexpr):
    """Weights from logits and their log-sum-exp; without softmax the logits are the weights."""
    return tl.exp(logit - lse) if NORMALIZE else logit
