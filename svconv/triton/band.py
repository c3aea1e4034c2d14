"""Products with band matrices on tensor cores: float16, bfloat16, and float32 where torch allows tf32. docs/triton.md.

A tile is ROWS x COLUMNS pixels, its window WINDOW_ROWS rows of 2 * COLUMNS columns, from K // 2 rows above and
COLUMNS / 2 columns left of it. Pixel q and window position k meet in one tap, or in none: the K*K taps of a pixel are a
band in a matrix of pixels x window, built once for all channels.
"""

import triton
import triton.language as tl

from svconv.triton.tiles import exponential, index, log_sum_exp, pixels_of_tile, position, tile_of_program


@triton.jit
def tile_and_window(
    row, column, a, b, height, width, dilation, K: tl.constexpr, REVERSED: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WINDOW_ROWS: tl.constexpr,
):  # fmt: skip
    """Position of each pixel [pixels] and window position [window], and the tap where they meet [pixels, window]:
    y, x, inside, window_y, window_x, window_inside, tap, band."""
    pixel = tl.arange(0, ROWS * COLUMNS)
    window = tl.arange(0, WINDOW_ROWS * 2 * COLUMNS)
    i, j = pixel // COLUMNS, pixel % COLUMNS
    k, l = window // (2 * COLUMNS), window % (2 * COLUMNS)  # noqa: E741
    y, x, inside = position(row + i, column + j, a, b, height, width, dilation, WIDE)
    wy, wx, window_inside = position(row - K // 2 + k, column - COLUMNS // 2 + l, a, b, height, width, dilation, WIDE)
    # Rows and columns from the pixel to the window position.
    down = k[None, :] - K // 2 - i[:, None]
    right = l[None, :] - COLUMNS // 2 - j[:, None]
    # A convolution reads at i - u; its transpose at i + u.
    t = K // 2 + (down if REVERSED else -down)
    s = K // 2 + (right if REVERSED else -right)
    band = (t >= 0) & (t < K) & (s >= 0) & (s < K)
    return y, x, inside, wy, wx, window_inside, index(t * K + s, WIDE), band


@triton.jit
def band_sum(
    input_ptr, logits_ptr, lse_ptr, out_ptr,
    input_n, input_c, input_y, input_x, logits_n, logits_c, logits_y, logits_x, out_n, out_c, out_y, out_x,
    groups, channels, height, width, dilation, part,
    K: tl.constexpr, REVERSED: tl.constexpr, NORMALIZE: tl.constexpr, RENORMALIZE: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WINDOW_ROWS: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """`forward`, which writes the log-sum-exp, and with REVERSED `grad_input`, which reads it."""
    n, g, first, row, column, a, b = tile_of_program(groups, channels, height, width, dilation, part, ROWS, COLUMNS)
    y, x, inside, wy, wx, window_inside, tap, band = tile_and_window(
        row, column, a, b, height, width, dilation, K, REVERSED, WIDE, ROWS, COLUMNS, WINDOW_ROWS
    )
    logits_ptr += n * logits_n + (g * (K * K)).to(tl.int64) * logits_c
    lse_ptr += (n * groups + g) * height * width
    if REVERSED:
        at = (wy * logits_y + wx * logits_x)[None, :]
        mask = band & window_inside[None, :]
        lse = tl.load(lse_ptr + wy * width + wx, window_inside & NORMALIZE, 0.0)[None, :]
    else:
        at = (y * logits_y + x * logits_x)[:, None]
        mask = band & inside[:, None]
        lse = tl.zeros((ROWS * COLUMNS, 1), tl.float32)
        if NORMALIZE:
            i, j = pixels_of_tile(row, column, ROWS, COLUMNS)
            lse = log_sum_exp(
                logits_ptr + tl.trans(at), logits_c, i, j, inside[None, :], a, b, height, width, dilation, tl.float32,
                K, RENORMALIZE, WIDE, TAPS,
            )  # fmt: skip
            if first == 0:
                tl.store(lse_ptr + (y * width + x)[None, :], lse, inside[None, :])
            lse = tl.trans(lse)
    logit = tl.load(logits_ptr + at + tap * logits_c, mask, 0.0).to(tl.float32)
    weight = tl.where(mask, exponential(logit, lse, NORMALIZE), 0.0)
    # The interpreter, for which UPCAST is, does not round to bfloat16 but cuts off.
    if not UPCAST:
        weight = weight.to(input_ptr.dtype.element_ty)

    input_ptr += n * input_n + (wy * input_y + wx * input_x)[:, None]
    out_ptr += n * out_n + (y * out_y + x * out_x)[:, None]
    for c in range(first, tl.minimum(first + part, channels), CHANNELS):
        channel = c + tl.arange(0, CHANNELS)
        valid = (channel < channels)[None, :]
        channel = index(g * channels + channel, WIDE)[None, :]
        value = tl.load(input_ptr + channel * input_c, window_inside[:, None] & valid, 0.0)  # [window, channels]
        if UPCAST:
            sum = tl.dot(weight, value.to(tl.float32), input_precision=PRECISION)
        else:
            sum = tl.dot(weight, value, input_precision=PRECISION)
        tl.store(out_ptr + channel * out_c, sum.to(out_ptr.dtype.element_ty), inside[:, None] & valid)


@triton.jit
def band_gradient(
    grad_ptr, input_ptr, logits_ptr, lse_ptr, out_ptr,
    grad_n, grad_c, grad_y, grad_x, input_n, input_c, input_y, input_x,
    logits_n, logits_c, logits_y, logits_x, out_n, out_c, out_y, out_x,
    groups, channels, height, width, dilation,
    K: tl.constexpr, NORMALIZE: tl.constexpr, RENORMALIZE: tl.constexpr,
    PRECISION: tl.constexpr, UPCAST: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WINDOW_ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """`grad_weight`: the gradient of the weights, brought to the logits."""
    n, g, _, row, column, a, b = tile_of_program(groups, channels, height, width, dilation, channels, ROWS, COLUMNS)
    y, x, inside, wy, wx, window_inside, tap, band = tile_and_window(
        row, column, a, b, height, width, dilation, K, False, WIDE, ROWS, COLUMNS, WINDOW_ROWS
    )
    grad_ptr += n * grad_n + (y * grad_y + x * grad_x)[:, None]
    input_ptr += n * input_n + (wy * input_y + wx * input_x)[None, :]
    sum = tl.zeros((ROWS * COLUMNS, WINDOW_ROWS * 2 * COLUMNS), tl.float32)
    for c in range(0, channels, CHANNELS):
        channel = c + tl.arange(0, CHANNELS)
        valid = channel < channels
        channel = index(g * channels + channel, WIDE)
        grad = tl.load(grad_ptr + (channel * grad_c)[None, :], inside[:, None] & valid[None, :], 0.0)
        value = tl.load(input_ptr + (channel * input_c)[:, None], valid[:, None] & window_inside[None, :], 0.0)
        if UPCAST:
            sum = tl.dot(grad.to(tl.float32), value.to(tl.float32), sum, input_precision=PRECISION)
        else:
            sum = tl.dot(grad, value, sum, input_precision=PRECISION)

    mask = band & inside[:, None]
    # Where pixel and position don't meet the product may be infinite or NaN.
    sum = tl.where(mask, sum, 0.0)
    if NORMALIZE:
        logits_ptr += n * logits_n + (g * (K * K)).to(tl.int64) * logits_c
        lse_ptr += (n * groups + g) * height * width
        at = (y * logits_y + x * logits_x)[:, None]
        lse = tl.load(lse_ptr + y * width + x, inside, 0.0)
        logit = tl.load(logits_ptr + at + tap * logits_c, mask, float("-inf")).to(tl.float32)
        weight = tl.where(mask, tl.exp(logit - lse[:, None]), 0.0)
        if RENORMALIZE:
            weight = tl.where(window_inside[None, :], weight, 0.0)
        # The row of a pixel holds all its taps: sum over k of w_k * dw_k.
        delta = tl.sum(weight * sum, 1)
        sum = weight * (sum - delta[:, None])
    out_ptr += n * out_n + (g * (K * K)).to(tl.int64) * out_c + (y * out_y + x * out_x)[:, None]
    tl.store(out_ptr + tap * out_c, sum.to(out_ptr.dtype.element_ty), mask)
