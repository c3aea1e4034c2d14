"""Faults to plant in the Triton kernels, each of which the operator's check must catch (test_triton_faults.py)."""

from dataclasses import dataclass

import torch
from svconv_cases import Case, NotFinite


@dataclass(frozen=True)
class Fault:
    """A text of a file of svconv/triton, found there once, and what stands in its place."""

    name: str
    file: str
    text: str
    replacement: str
    case: Case


HALF = Case((1, 6, 7, 13), 5, padding_mode="renormalize", dtype=torch.float16)
GROUPS = Case((2, 6, 5, 9), 3, groups=2, dtype=torch.float16)
DILATED = Case((1, 3, 5, 9), 3, dilation=2, dtype=torch.float16)
# More than one block of channels.
DEEP = Case((1, 37, 4, 9), 3, dtype=torch.float16)
NOT_FINITE = NotFinite((1, 3, 5, 17), 3, dtype=torch.float16)
EXACT = Case((1, 6, 7, 13), 5, padding_mode="renormalize")

FAULTS = (
    Fault(
        "a tap shifted",
        "band.py",
        "right = l[None, :] - COLUMNS // 2 - j[:, None]",
        "right = l[None, :] - COLUMNS // 2 - j[:, None] + 1",
        HALF,
    ),
    Fault("a correlation", "band.py", "t = K // 2 + (down if REVERSED else -down)", "t = K // 2 + down", HALF),
    Fault(
        "columns past the row's end not masked",
        "band.py",
        "return y, x, inside, wy, wx, window_inside, index",
        "return y, x, inside, wy, wx, (wy >= 0) & (wy < height) & (wx >= 0), index",
        HALF,
    ),
    Fault("the last column masked", "tiles.py", "& (x < width)", "& (x < width - 1)", HALF),
    Fault(
        "a group's offset forgotten",
        "band.py",
        "channel = index(g * channels + channel, WIDE)[None, :]",
        "channel = index(channel, WIDE)[None, :]",
        GROUPS,
    ),
    Fault(
        "a stride of another tensor",
        "band.py",
        "(wy * input_y + wx * input_x)[:, None]",
        "(wy * out_x + wx * input_x)[:, None]",
        HALF,
    ),
    Fault(
        "no softmax maximum",
        "tiles.py",
        "highest = tl.maximum(highest, tl.max(logit, 0, keep_dims=True))",
        "highest = tl.zeros_like(highest)",
        EXACT,
    ),
    Fault(
        "taps outside the frame in the softmax", "band.py", "K, RENORMALIZE, WIDE, TAPS,", "K, False, WIDE, TAPS,", HALF
    ),
    Fault(
        "only the last channels summed",
        "band.py",
        "sum = tl.dot(grad, value, sum, input_precision=PRECISION)",
        "sum = tl.dot(grad, value, input_precision=PRECISION)",
        DEEP,
    ),
    Fault(
        "no end to what isn't finite",
        "band.py",
        "sum = tl.where(mask, sum, 0.0)",
        "sum = sum + 0.0",
        NOT_FINITE,
    ),
    Fault(
        "sub-images not interleaved",
        "tiles.py",
        "y, x = a + row * dilation, b + column * dilation",
        "y, x = a + row * dilation, a + column * dilation",
        DILATED,
    ),
    Fault(
        "no mean in the softmax's derivative",
        "band.py",
        "sum = weight * (sum - delta[:, None])",
        "sum = weight * sum",
        HALF,
    ),
    Fault(
        "the pixel's log-sum-exp in the transpose", "band.py", "lse_ptr + wy * width + wx", "lse_ptr + wy * width", HALF
    ),
    Fault("a tap too many", "tiles.py", "return y, x, inside & (tap < K * K)", "return y, x, inside", EXACT),
    Fault("the transpose of another tap", "tiles.py", "j + v if REVERSED else j - v", "j - v", EXACT),
    Fault(
        "no mean in the exact derivative",
        "taps.py",
        "grad = weight * (grad - delta[None, :])",
        "grad = weight * grad",
        EXACT,
    ),
)
