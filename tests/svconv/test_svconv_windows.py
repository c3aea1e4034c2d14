"""Borders, order of taps and scale: every combination on every backend against the float64 reference."""

from dataclasses import replace
from functools import partial
from itertools import product

import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, TESTED, Case, assert_close, check, path_on, run
from test_svconv_compile import Model, run_onnx, to_onnx
from torch.export import Dim

from svconv import SVConv2d, checks, correlation2d, dispatch, explain, ops, reference, slices, svconv2d, windows

INTERPRETED = TESTED["interpreted"]
# Fewer channels of a group than a vector is wide, and more.
SHAPE = (2, 18, 10, 13)
WINDOWS = [
    Case(SHAPE, k, d, g, padding_mode=padding_mode, taps=taps, scale=s)
    for k, d, g, s in ((3, 1, 1, 1), (5, 2, 3, 1), (3, 1, 2, 2), (3, 2, 1, 3), (9, 1, 1, 1))
    for padding_mode, taps in product(checks.PADDING_MODES, checks.TAPS)
    # Those of every other file.
    if (padding_mode, taps, s) not in (("zeros", "convolution", 1), ("renormalize", "convolution", 1))
]
WINDOWS += [
    Case(SHAPE, 3, groups=3, padding_mode=padding_mode, taps=taps, scale=s, tap_major=True)
    for padding_mode, taps, s in (("zeros", "convolution", 1), ("shift", "correlation", 1), ("zeros", "correlation", 2))
]
# Interpreters take minutes for wide kernels and fine frames.
if INTERPRETED:
    WINDOWS = [replace(case, shape=(1, 6, 10, 11)) for case in WINDOWS if case.kernel_size == 3]
CORRELATED = [case for case in WINDOWS if case.padding_mode != "renormalize"]
# Frames as small as a window, or a radius, or nothing.
TINY = [
    Case((1, 3, 5, 5), 5, padding_mode="shift", taps="correlation"),
    Case((1, 3, 6, 11), 3, 2, padding_mode="shift"),
    Case((2, 3, 7, 9), 3, 2, padding_mode="shift", scale=2),
    Case((1, 3, 3, 4), 5, padding_mode="reflect"),
    Case((1, 3, 3, 4), 3, 2, padding_mode="reflect", scale=2),
    Case((1, 3, 1, 1), 5, padding_mode="replicate"),
    Case((1, 3, 1, 9), 3, 3, padding_mode="replicate", taps="correlation"),
    Case((1, 1, 1, 1), 3, taps="correlation", scale=5),
    Case((1, 2, 3, 2), 1, padding_mode="shift", scale=2),
]


def laid_out(tensors, layout):
    return [t.contiguous(memory_format=LAYOUTS[layout]) for t in tensors]


@pytest.mark.sample(11)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_every_window_in_every_type_and_layout(case, dtype, layout, device):
    case = replace(case, dtype=dtype)
    check(case, *laid_out(case.tensors(device), layout))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("case", TINY, ids=str)
def test_windows_of_tiny_frames(case, normalize, device):
    case = replace(case, normalize=normalize)
    check(case, *case.tensors(device))


@pytest.mark.sample(7)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CORRELATED, ids=str)
def test_correlation_of_every_window(case, layout, device):
    key, _, query = laid_out(case.tensors(device), layout)
    out = correlation2d(query.requires_grad_(), key.requires_grad_(), **case.correlation_options)
    assert out.is_contiguous(memory_format=LAYOUTS[layout])
    exact = [t.detach().cpu().double().requires_grad_() for t in (query, key)]
    want = reference.correlation2d(*exact, **case.correlation_options)
    assert_close(case, "grad_logits", out, want, path_on(case, out.device))
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    got = torch.autograd.grad(out, (query, key), cotangent.to(out))
    want = torch.autograd.grad(want, exact, cotangent.double())
    for name, a, b in zip(("out", "grad_input"), got, want, strict=True):
        assert_close(case, name, a, b, path_on(case, a.device))


def test_results_keep_the_layout_of_the_input(device):
    for case, layout in product(WINDOWS[::7], LAYOUTS):
        input, logits, _ = laid_out(case.tensors(device), layout)
        assert svconv2d(input, logits, **case.options).is_contiguous(memory_format=LAYOUTS[layout])


SMALL = [
    replace(
        case, shape=(1, 2, 4, 5), kernel_size=3, dilation=1, groups=2, scale=min(case.scale, 2), dtype=torch.float64
    )
    for case in CORRELATED[:: 5 if INTERPRETED else 2]
]


@pytest.mark.sample(7)
@pytest.mark.parametrize("case", dict.fromkeys(SMALL), ids=str)
def test_first_and_second_derivatives_of_windows(case, device):
    input, logits, _ = case.tensors(device)
    input.requires_grad_(), logits.requires_grad_()
    function = partial(svconv2d, **case.options)
    assert torch.autograd.gradcheck(function, (input, logits), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (input, logits), fast_mode=True)


def test_vmap_of_a_window_is_a_loop(device):
    case = replace(WINDOWS[-1], kernel_size=3, shape=(1, 6, 7, 8), padding_mode="shift", scale=2)
    tensors = [torch.stack([t, 2 * t, t - 1]) for t in case.tensors(device)[:2]]
    function = partial(svconv2d, **case.options)
    torch.testing.assert_close(torch.func.vmap(function)(*tensors), torch.stack(list(map(function, *tensors))))


# Several vectors and tiles wide on every instruction set; few channels, one chunk of them, and two.
WIDE = [
    Case((1, c, 13, 45), k, padding_mode=padding_mode, taps=taps, scale=s, normalize=normalize)
    for c in (2, 20, 38)
    for k, padding_mode, taps, s, normalize in (
        (7, "shift", "correlation", 1, False),
        (3, "replicate", "convolution", 2, True),
        (5, "reflect", "correlation", 1, True),
        (3, "zeros", "correlation", 3, False),
    )
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_wide_windows_on_every_instruction_set(case, layout, instruction_set):
    check(case, *laid_out(case.tensors(), layout))


@pytest.mark.parametrize("case", WINDOWS[1::6], ids=str)
def test_autocast_of_windows(case, device):
    input, logits, _ = case.tensors(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = svconv2d(input, logits.bfloat16(), **case.options)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, svconv2d(input.bfloat16(), logits.bfloat16(), **case.options))


@pytest.mark.parametrize("case", WINDOWS[::5], ids=str)
def test_out_of_windows(case, device):
    input, logits, _ = case.tensors(device)
    want = svconv2d(input, logits, **case.options)
    held = torch.empty_like(want)
    assert svconv2d(input, logits, **case.options, out=held) is held
    assert torch.equal(held, want)
    with pytest.raises(ValueError, match="^svconv2d: expected out of shape"):
        svconv2d(input, logits, **case.options, out=want.new_empty(want.shape[:-1] + (1,)))


@pytest.mark.parametrize("case", WINDOWS[::5], ids=str)
def test_windows_are_explained_and_the_module_has_them(case, device):
    input, logits, _ = case.tensors(device)
    assert (
        explain(input, logits, **case.options).chosen
        == explain(input, logits[..., :1, :1].expand_as(logits), **case.options).chosen
    )
    module = SVConv2d(**case.options)
    assert torch.equal(module(input, logits), svconv2d(input, logits, **case.options))
    window = f"taps={case.taps!r}, tap_major={case.tap_major}, scale={case.scale}"
    assert f"padding_mode={case.padding_mode!r}, {window}" in repr(module)


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_slices_of_every_window_are_the_reference(case):
    tensors = [t.double() for t in case.tensors()]
    for got, want in zip(
        run(slices.svconv2d, *tensors, **case.kernel_options),
        run(reference.svconv2d, *tensors, **case.kernel_options),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("case", CORRELATED[::3], ids=str)
def test_windows_put_together_are_the_reference(case):
    """Backends whose kernels read plain windows take those on the inside, and slices along the border."""
    tensors = [t.double() for t in case.tensors()]

    def plain(input, logits, **options):
        assert windows.is_plain(**options)
        return reference.svconv2d(input, logits, **options)

    got = windows.svconv2d(plain, slices.svconv2d, *tensors[:2], **case.kernel_options)
    torch.testing.assert_close(got, reference.svconv2d(*tensors[:2], **case.kernel_options))


def test_plain_windows_are_those_that_every_kernel_reads():
    assert [windows.is_plain(**case.options) for case in (Case(), Case(padding_mode="renormalize"))] == [True, True]
    assert not any(windows.is_plain(**case.options) for case in WINDOWS if not case.tap_major)
    assert dispatch.BACKENDS["reference"].reads(**WINDOWS[0].options)


@pytest.mark.parametrize(
    "case",
    [Case((1, 24, 33, 41), 5, padding_mode=mode, scale=2) for mode in checks.PADDING_MODES]
    # Put together of parts, some of them by torch.
    + [Case((1, 24, 33, 41), 5, 2, padding_mode=mode) for mode in ("reflect", "replicate")]
    + [Case((1, 8, 21, 23), 5, 2, padding_mode="shift", scale=2)],
    ids=str,
)
def test_windows_repeat_bit_for_bit_whatever_the_number_of_threads(case):
    tensors = case.tensors()
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(run(svconv2d, *tensors, **case.options))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


# A size that is free must be one at which the window fits.
FREE = {0: Dim("n"), 2: Dim("h", min=5, max=64), 3: Dim("w", min=5, max=64)}
TRACED = [
    Case((2, 4, 7, 9), 3, groups=2, padding_mode=mode, taps=taps, scale=scale)
    for mode, taps, scale in (
        ("shift", "correlation", 1),
        ("reflect", "convolution", 1),
        ("replicate", "correlation", 2),
        ("zeros", "correlation", 2),
    )
]
TRACED.append(replace(TRACED[0], tap_major=True))


def sizes_of(case):
    fine = {0: FREE[0], 2: case.scale * FREE[2], 3: case.scale * FREE[3]}
    return {"input": FREE, "logits": fine}


@pytest.mark.parametrize("case", TRACED, ids=str)
def test_windows_compile_and_export_for_all_sizes(case):
    model = Model(**case.options)
    input, logits, grad_out = case.tensors()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    program = torch.export.export(model, (input, logits), dynamic_shapes=sizes_of(case)).module()
    for other in (case, replace(case, shape=(3, 4, 8, 6))):
        input, logits, grad_out = other.tensors()
        for got, want in zip(run(compiled, input, logits, grad_out), run(model, input, logits, grad_out), strict=True):
            torch.testing.assert_close(got, want)
        torch.testing.assert_close(program(input, logits), model(input, logits))


@pytest.mark.parametrize(("mode", "least"), [("shift", 6), ("reflect", 3), ("reflect", 6), ("replicate", 1)])
def test_dilated_windows_at_a_scale_export_from_their_smallest_frame_on(mode, least):
    case = Case((2, 2, 17, 19), 3, dilation=2, padding_mode=mode, scale=2)
    model, (h, w) = Model(**case.options), (Dim(name, min=least, max=64) for name in "hw")
    sizes = {"input": {2: h, 3: w}, "logits": {2: 2 * h, 3: 2 * w}}
    program = torch.export.export(model, tuple(case.tensors()[:2]), dynamic_shapes=sizes).module()
    for height, width in ((least, least), (least, 19), (17, least), (12, 13)):
        input, logits, _ = replace(case, shape=(2, 2, height, width)).tensors()
        torch.testing.assert_close(program(input, logits), model(input, logits))


@pytest.mark.parametrize("strict", [False, True])
def test_exported_windows_run_at_sizes_with_an_interior_and_without(strict):
    case = Case((2, 1, 7, 9), 3, 3, padding_mode="reflect")
    model = Model(**case.options)
    program = torch.export.export(model, tuple(case.tensors()[:2]), dynamic_shapes=sizes_of(case), strict=strict)
    for other in (case, replace(case, shape=(3, 1, 8, 6))):
        input, logits, _ = other.tensors()
        torch.testing.assert_close(program.module()(input, logits), model(input, logits))


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", TRACED, ids=str)
def test_onnx_of_windows(case):
    model = Model(**case.options).eval()
    session = to_onnx(model, case.tensors()[:2], dynamic_shapes=sizes_of(case))
    for other in (case, replace(case, shape=(3, 4, 8, 6))):
        input, logits, _ = other.tensors()
        torch.testing.assert_close(run_onnx(session, input, logits), model(input, logits), rtol=1e-4, atol=1e-5)


def test_channels_that_count_taps_first_are_the_same_numbers(device):
    """(N, K*K, groups, H, W) in place of (N, groups, K*K, H, W); with one group they are one tensor."""
    input, weights, _ = Case((2, 6, 7, 9), 3, groups=3).tensors(device)
    options = dict(kernel_size=3, groups=3)
    taps_first = weights.unflatten(1, (3, 9)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(svconv2d(input, taps_first, **options, tap_major=True), svconv2d(input, weights, **options))
    by_group, by_tap = (correlation2d(input, input, **options, tap_major=tap_major) for tap_major in (False, True))
    assert torch.equal(by_tap.unflatten(1, (9, 3)).transpose(1, 2).flatten(1, 2), by_group)
    assert windows.groups_first(weights, 1).data_ptr() == weights.data_ptr()


def test_shifted_windows_hold_every_tap_of_their_frame(device):
    """The weight of a pixel's last tap is of its window's last pixel, at the border of the frame too."""
    input = torch.arange(42.0, device=device).reshape(1, 1, 6, 7)
    weights = torch.zeros(1, 9, 6, 7, device=device)
    weights[:, 8] = 1
    options = dict(kernel_size=3, normalize=False, padding_mode="shift", taps="correlation")
    rows = torch.arange(6).clamp(1, 4) + 1
    columns = torch.arange(7).clamp(1, 5) + 1
    assert torch.equal(svconv2d(input, weights, **options).cpu()[0, 0], input.cpu()[0, 0][rows][:, columns])


# border, correlation, scale: what the raw operators of the CPU take.
RAW = [(1, True, 2), (2, False, 1), (3, True, 1), (0, True, 3)]


def raw_calls(window, dtype):
    """The three compiled operators, what they are decomposed into, and their tensors; the raw options of all."""
    case = Case((2, 4, 5, 6), 3, groups=2, dtype=dtype, scale=window[2])
    input, logits, grad_out = case.tensors()
    options = 3, 1, 2, True, window[0] == 0, False, *window
    operators = ops.COMPILED
    _, lse = operators.forward(input, logits, *options)
    return options, [
        (operators.forward, slices.forward, (input, logits)),
        (operators.grad_input, slices.grad_input, (grad_out, logits, lse)),
        (operators.grad_weight, slices.grad_weight, (grad_out, input, logits, lse)),
    ]


@pytest.mark.parametrize("window", RAW, ids=str)
def test_decompositions_of_windows_are_the_operators(window):
    options, calls = raw_calls(window, torch.float64)
    for operator, decomposition, tensors in calls:
        torch.testing.assert_close(decomposition(*tensors, *options), operator(*tensors, *options))
