"""Products tap by tap, in the accumulation type: exact float32, float64, and kernels too wide for a band.

A tile is ROWS x COLUMNS pixels, CHANNELS channels and TAPS taps at a time.
"""

import triton
import triton.language as tl

from svconv.triton.tiles import (
    exponential,
    index,
    log_sum_exp,
    pixels_of_tile,
    position,
    tile_of_program,
    where_taps_read,
)


@triton.jit
def taps_sum(
    input_ptr, logits_ptr, lse_ptr, out_ptr,
    input_n, input_c, input_y, input_x, logits_n, logits_c, logits_y, logits_x, out_n, out_c, out_y, out_x,
    groups, channels, height, width, dilation, part,
    K: tl.constexpr, REVERSED: tl.constexpr, NORMALIZE: tl.constexpr, RENORMALIZE: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """`forward`, which writes the log-sum-exp, and with REVERSED `grad_input`, which reads it."""
    number = lse_ptr.dtype.element_ty
    n, g, first, row, column, a, b = tile_of_program(groups, channels, height, width, dilation, part, ROWS, COLUMNS)
    i, j = pixels_of_tile(row, column, ROWS, COLUMNS)
    y, x, inside = position(i, j, a, b, height, width, dilation, WIDE)
    logits_ptr += n * logits_n + (g * (K * K)).to(tl.int64) * logits_c
    lse_ptr += (n * groups + g) * height * width

    own_lse = tl.zeros((1, ROWS * COLUMNS), number)
    if NORMALIZE and not REVERSED:
        own_lse = log_sum_exp(
            logits_ptr + y * logits_y + x * logits_x, logits_c, i, j, inside, a, b, height, width, dilation, number,
            K, RENORMALIZE, WIDE, TAPS,
        )  # fmt: skip
        if first == 0:
            tl.store(lse_ptr + y * width + x, own_lse, inside)

    input_ptr += n * input_n
    # The accumulators are [pixels, channels].
    out_ptr += n * out_n + tl.trans(y * out_y + x * out_x)
    writable = tl.trans(inside)
    for c in range(first, tl.minimum(first + part, channels), CHANNELS):
        channel = c + tl.arange(0, CHANNELS)
        valid = channel < channels
        channel = index(g * channels + channel, WIDE)
        sum = tl.zeros((ROWS * COLUMNS, CHANNELS), number)
        for t in range(0, K * K, TAPS):
            tap = t + tl.arange(0, TAPS)[:, None]
            fy, fx, mask = where_taps_read(tap, i, j, a, b, height, width, dilation, K, REVERSED, WIDE)
            mask &= inside
            at = logits_ptr + index(tap, WIDE) * logits_c
            if REVERSED:
                logit = tl.load(at + fy * logits_y + fx * logits_x, mask, 0.0).to(number)
                if NORMALIZE:
                    weight = tl.exp(logit - tl.load(lse_ptr + fy * width + fx, mask, 0.0))
                else:
                    weight = logit
            else:
                logit = tl.load(at + y * logits_y + x * logits_x, mask, 0.0).to(number)
                weight = exponential(logit, own_lse, NORMALIZE)
            value = tl.load(
                input_ptr + (fy * input_y + fx * input_x)[:, :, None] + (channel * input_c)[None, None, :],
                mask[:, :, None] & valid[None, None, :],
                0.0,
            ).to(number)  # [taps, pixels, channels]
            sum += tl.sum(weight[:, :, None] * value, 0)
        tl.store(out_ptr + (channel * out_c)[None, :], sum.to(out_ptr.dtype.element_ty), writable & valid[None, :])


@triton.jit
def taps_gradient(
    grad_ptr, input_ptr, out_ptr,
    grad_n, grad_c, grad_y, grad_x, input_n, input_c, input_y, input_x, out_n, out_c, out_y, out_x,
    groups, channels, height, width, dilation,
    K: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """The gradient of the weights, in the accumulation type."""
    number = out_ptr.dtype.element_ty
    n, g, _, row, column, a, b = tile_of_program(groups, channels, height, width, dilation, channels, ROWS, COLUMNS)
    i, j = pixels_of_tile(row, column, ROWS, COLUMNS)
    y, x, inside = position(i, j, a, b, height, width, dilation, WIDE)
    grad_ptr += n * grad_n + tl.trans(y * grad_y + x * grad_x)
    input_ptr += n * input_n
    out_ptr += n * out_n + (g * (K * K)).to(tl.int64) * out_c
    readable = tl.trans(inside)
    for t in range(0, K * K, TAPS):
        tap = t + tl.arange(0, TAPS)[:, None]
        fy, fx, mask = where_taps_read(tap, i, j, a, b, height, width, dilation, K, False, WIDE)
        mask = (mask & inside)[:, :, None]
        at = input_ptr + (fy * input_y + fx * input_x)[:, :, None]
        sum = tl.zeros((TAPS, ROWS * COLUMNS, CHANNELS), number)
        for c in range(0, channels, CHANNELS):
            channel = c + tl.arange(0, CHANNELS)
            valid = channel < channels
            channel = index(g * channels + channel, WIDE)
            grad = tl.load(grad_ptr + (channel * grad_c)[None, :], readable & valid[None, :], 0.0).to(number)
            value = tl.load(at + (channel * input_c)[None, None, :], mask & valid[None, None, :], 0.0).to(number)
            sum += grad[None, :, :] * value
        tl.store(out_ptr + y * out_y + x * out_x + index(tap, WIDE) * out_c, tl.sum(sum, 2), inside & (tap < K * K))


@triton.jit
def taps_jacobian(
    weights_grad_ptr, logits_ptr, lse_ptr, out_ptr,
    grad_n, grad_c, grad_y, grad_x, logits_n, logits_c, logits_y, logits_x, out_n, out_c, out_y, out_x,
    groups, height, width, dilation,
    K: tl.constexpr, RENORMALIZE: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """The gradient of the weights brought to the logits."""
    number = lse_ptr.dtype.element_ty
    n, g, _, row, column, a, b = tile_of_program(groups, 1, height, width, dilation, 1, ROWS, COLUMNS)
    i, j = pixels_of_tile(row, column, ROWS, COLUMNS)
    y, x, inside = position(i, j, a, b, height, width, dilation, WIDE)
    first = (g * (K * K)).to(tl.int64)
    weights_grad_ptr += n * grad_n + first * grad_c + y * grad_y + x * grad_x
    logits_ptr += n * logits_n + first * logits_c + y * logits_y + x * logits_x
    out_ptr += n * out_n + first * out_c + y * out_y + x * out_x
    lse = tl.load(lse_ptr + (n * groups + g) * height * width + y * width + x, inside, 0.0)
    delta = tl.zeros((ROWS * COLUMNS,), number)
    # First the sum over k of w_k * dw_k, then the results.
    for PASS in tl.static_range(2):
        for t in range(0, K * K, TAPS):
            tap = t + tl.arange(0, TAPS)[:, None]
            writable = inside & (tap < K * K)
            mask = writable
            if RENORMALIZE:
                mask &= where_taps_read(tap, i, j, a, b, height, width, dilation, K, False, WIDE)[2]
            tap = index(tap, WIDE)
            weight = tl.exp(tl.load(logits_ptr + tap * logits_c, mask, float("-inf")).to(number) - lse)
            grad = tl.load(weights_grad_ptr + tap * grad_c, mask, 0.0)
            if PASS == 0:
                delta += tl.sum(weight * grad, 0)
            else:
                grad = weight * (grad - delta[None, :])
                tl.store(out_ptr + tap * out_c, grad.to(out_ptr.dtype.element_ty), writable)
