"""Any problem against the formulas of docs/operator.md: draws over all options, types, layouts and sizes at once."""

from dataclasses import replace

import definition
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from svconv_cases import DTYPES, NAMES, TESTED, Case, assert_close, path_on, run

from svconv import checks, correlation2d, svconv2d

INTERPRETED = TESTED["interpreted"]
EXAMPLES = 5 if INTERPRETED else 60
LEAST = {
    "shift": lambda case: case.dilation * case.kernel_size,
    "reflect": lambda case: case.dilation * (case.kernel_size // 2) + 1,
    "replicate": lambda case: 1,
}
# An (N, C, H, W) tensor of the same numbers in other strides, in memory that holds NaN elsewhere.
STRIDES = {
    "nchw": lambda t: t.contiguous(),
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "columns before rows": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "batch inside": lambda t: t.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    "gaps": lambda t: t.new_full([2 * size + 1 for size in t.shape], torch.nan)[1::2, 1::2, 1::2, 1::2].copy_(t),
    "gaps in channels last": lambda t: STRIDES["gaps"](t.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
}


@st.composite
def problems(draw, padding_modes=checks.PADDING_MODES):
    kernel_size = draw(st.sampled_from((1, 3, 3, 5) if INTERPRETED else (1, 3, 3, 5, 7, 9, 13)))
    dilation = draw(st.sampled_from((1, 1, 2, 3)))
    groups = draw(st.integers(1, 3))
    case = Case(
        shape=(0, 0, 0, 0),
        kernel_size=kernel_size,
        dilation=dilation,
        groups=groups,
        normalize=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(padding_modes)),
        dtype=draw(st.sampled_from(DTYPES)),
        taps=draw(st.sampled_from(checks.TAPS)),
        scale=draw(st.sampled_from((1, 1, 2, 3))),
        tap_major=draw(st.booleans()),
    )
    least = LEAST.get(case.padding_mode, lambda case: 0)(case)
    # Frames as small as may be, and some more; wide ones where the window leaves room.
    height, width = (least + draw(st.integers(0, 6)) for _ in range(2))
    if not INTERPRETED:
        width += draw(st.sampled_from((0, 0, 20)))
    # Where all taps read one pixel the softmax's gradient is what rounding leaves of zero.
    width += height == width == 1
    channels = draw(st.sampled_from((1, 1, 2, 5, 17)))
    return replace(case, shape=(draw(st.sampled_from((1, 1, 2, 0))), groups * channels, height, width))


strides = st.tuples(*[st.sampled_from(sorted(STRIDES))] * 3)
drawn = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@drawn
@given(case=problems(), names=strides)
def test_any_problem_is_what_the_formulas_say(device, case, names):
    tensors = case.tensors()
    want = run(definition.svconv2d, *(t.double() for t in tensors), **case.options)
    laid_out = [STRIDES[name](t.to(device)) for name, t in zip(names, tensors, strict=True)]
    got = run(svconv2d, *laid_out, **case.options)
    for name, a, b in zip(NAMES, got, want, strict=True):
        assert_close(case, name, a, b, path_on(case, a.device))


@drawn
@given(case=problems(checks.CORRELATION_PADDING_MODES), names=strides)
def test_any_correlation_is_what_the_formulas_say(device, case, names):
    key, _, query = (STRIDES[name](t.to(device)) for name, t in zip(names, case.tensors(), strict=True))
    cotangent = replace(case, dtype=torch.float64).tensors()[1].to(case.dtype)

    def both(function, *tensors):
        query, key, cotangent = (t.detach().requires_grad_() for t in tensors)
        out = function(query, key, **case.correlation_options)
        return (out.detach(), *torch.autograd.grad(out, (query, key), cotangent))

    got = both(correlation2d, query, key, cotangent.to(device))
    want = both(definition.correlation2d, *(t.double() for t in (case.tensors()[2], case.tensors()[0], cotangent)))
    for name, a, b in zip(("grad_logits", "out", "grad_input"), got, want, strict=True):
        assert_close(case, name, a, b, path_on(case, a.device))


def test_the_formulas_are_those_of_one_tap():
    """By hand: K = 3, the last row and column of a frame of 4 x 5."""
    rows = {
        ("zeros", "convolution"): [4, 3, 2],
        ("zeros", "correlation"): [2, 3, 4],
        ("shift", "correlation"): [1, 2, 3],
        ("reflect", "correlation"): [2, 3, 2],
        ("replicate", "correlation"): [2, 3, 3],
    }
    for (padding_mode, taps), want in rows.items():
        got = definition.read_positions(4, 3, 1, padding_mode, taps, 1)
        assert [tap[3] for tap in got] == [None if row == 4 else row for row in want]
