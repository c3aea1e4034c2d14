"""Forward and both gradients against the float64 reference."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, TESTED, Case, NotFinite, check, run

from svconv import correlation2d, svconv2d

KERNELS = [Case(kernel_size=k) for k in (1, 3, 5, 7, 9, 11, 13, 15)]
# An interpreter's time goes by images, groups and the dilation**2 sub-images.
if TESTED["interpreted"]:
    SHAPE, DILATION, WIDER_THAN_ITS_FRAME = (2, 6, 7, 11), 2, Case(shape=(1, 5, 3, 4), kernel_size=5, dilation=5)
else:
    SHAPE, DILATION, WIDER_THAN_ITS_FRAME = (2, 12, 10, 17), 3, Case(shape=(1, 5, 6, 9), kernel_size=5, dilation=20)
OPTIONS = [
    Case(shape=SHAPE, kernel_size=k, dilation=d, groups=g, normalize=norm, padding_mode=padding)
    for k in (3, 9)
    for d in (1, DILATION)
    for g in (1, 3)
    for norm, padding in ((True, "zeros"), (True, "renormalize"), (False, "zeros"))
]
SIZES = [
    Case(shape=shape)
    for shape in (
        (1, 1, 1, 1),
        (1, 3, 2, 300),  # wider than a strip
        (1, 3, 140, 2),  # taller than a band
        (1, 7, 4, 3),  # smaller than the kernel
        (3, 33, 2, 50),
        (1, 290, 7, 10),  # more channels than a slab
        (1, 70, 37, 61),  # several chunks, bands and strips
    )
] + [WIDER_THAN_ITS_FRAME, Case(shape=(1, 6, 7, 5), groups=6)]


def laid_out(tensors, layout):
    return [t.contiguous(memory_format=LAYOUTS[layout]) for t in tensors]


@pytest.mark.sample(7)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", KERNELS, ids=str)
def test_kernel_sizes_in_every_type_and_layout(case, dtype, layout, device):
    case = replace(case, dtype=dtype)
    check(case, *laid_out(case.tensors(device), layout))


@pytest.mark.sample(9)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_options(case, dtype, layout, device):
    case = replace(case, dtype=dtype)
    check(case, *laid_out(case.tensors(device), layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_sizes(case, dtype, layout, device):
    case = replace(case, dtype=dtype)
    check(case, *laid_out(case.tensors(device), layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel_size", (9, 11))
def test_every_instruction_set(instruction_set, kernel_size, dtype, layout):
    case = Case(shape=(1, 35, 18, 29), kernel_size=kernel_size, padding_mode="renormalize", dtype=dtype)
    check(case, *laid_out(case.tensors(), layout))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", (40, 270))
def test_items_of_more_rows_than_l2_holds_weights_of(instruction_set, channels, layout):
    # Three rows of 81 taps at 250 pixels take a quarter of a MiB; 270 channels are more than a slab.
    case = Case(shape=(1, channels, 29, 250), kernel_size=9)
    check(case, *laid_out(case.tensors(), layout))


@pytest.mark.parametrize("input_layout", LAYOUTS)
@pytest.mark.parametrize("other_layout", LAYOUTS)
def test_layouts_may_differ_and_results_keep_those_of_their_tensors(input_layout, other_layout, device):
    case = Case()
    input, logits, grad_out = case.tensors(device)
    (input,), (logits, grad_out) = laid_out([input], input_layout), laid_out([logits, grad_out], other_layout)
    check(case, input, logits, grad_out)
    input.requires_grad_()
    logits.requires_grad_()
    out = svconv2d(input, logits)
    out.backward(torch.ones_like(out))
    assert out.stride() == input.stride()
    assert input.grad.stride() == input.stride()
    assert logits.grad.stride() == logits.stride()


VIEWS = {
    "every other column": lambda t: torch.stack((t, t), dim=4).flatten(3)[..., ::2],
    "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "storage offset": lambda t: torch.cat((t, t), dim=1)[:, t.shape[1] :],
    "flipped twice, channels inside rows": lambda t: t.permute(2, 1, 0, 3).contiguous().permute(2, 1, 0, 3),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_views_with_odd_strides(view, dtype, device):
    case = Case(dtype=dtype)
    check(case, *(VIEWS[view](t) for t in case.tensors(device)))


def test_expanded_tensors(device):
    case = Case(shape=(2, 5, 6, 9), kernel_size=3)
    input, logits, grad_out = case.tensors(device)
    expanded = (input[:, :1].expand_as(input), logits[:1].expand_as(logits), grad_out[..., :1].expand_as(grad_out))
    dense = [t.contiguous() for t in expanded]
    for got, want in zip(grads_and_out(*expanded), grads_and_out(*dense), strict=True):
        assert torch.equal(got, want)


def grads_and_out(input, logits, grad_out):
    input, logits = input.detach().requires_grad_(), logits.detach().requires_grad_()
    out = svconv2d(input, logits, kernel_size=3)
    return out.detach(), *torch.autograd.grad(out, (input, logits), grad_out)


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (2, 0, 5, 6), (2, 4, 0, 6)])
def test_empty_tensors(shape, device):
    n, c, h, w = shape
    input = torch.ones(shape, device=device, requires_grad=True)
    logits = torch.ones(n, 9, h, w, device=device, requires_grad=True)
    out = svconv2d(input, logits, kernel_size=3)
    out.sum().backward()
    assert out.shape == shape
    assert torch.equal(input.grad, torch.zeros_like(input))
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("case", [Case(shape=(1, 40, 35, 70)), Case(shape=(2, 8, 35, 20), dilation=2)], ids=str)
def test_results_repeat_bit_for_bit_whatever_the_number_of_threads(case):
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(grads_and_out_of(case))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_second_derivatives_repeat_bit_for_bit_whatever_the_number_of_threads():
    case = Case(shape=(1, 8, 41, 43), kernel_size=5)
    tensors = case.tensors()
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            input, logits, grad_out = (t.detach().requires_grad_() for t in tensors)
            out = svconv2d(input, logits, **case.options)
            grads = torch.autograd.grad(out, (input, logits), grad_out, create_graph=True)
            results.append(torch.autograd.grad([grad.square().sum() for grad in grads], (input, logits, grad_out)))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


STRIDES = (
    lambda t: t,
    lambda t: t.to(memory_format=torch.channels_last),
    lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
)


@pytest.mark.parametrize("function", [svconv2d, correlation2d])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_mode": "shift"},
        {"dilation": 2, "padding_mode": "reflect"},
        {"dilation": 2, "padding_mode": "replicate", "groups": 2},
        {"dilation": 2, "padding_mode": "shift", "scale": 2},
    ],
    ids=str,
)
def test_results_and_derivatives_have_the_same_bits_in_every_layout(function, options):
    torch.manual_seed(0)
    scale, groups = options.get("scale", 1), options.get("groups", 1)
    coarse, fine = torch.randn(1, 48, 14, 63), torch.randn(1, 48, 14 * scale, 63 * scale)
    logits = torch.randn(1, 9 * groups, 14 * scale, 63 * scale)
    given = (coarse, logits, fine) if function is svconv2d else (fine, coarse, logits)
    threads, results = torch.get_num_threads(), []
    try:
        for count, layout in product((1, 3, 8), STRIDES):
            torch.set_num_threads(count)
            first, second, grad_out = (layout(t).detach().requires_grad_() for t in given)
            out = function(first, second, kernel_size=3, **options)
            grads = torch.autograd.grad(out, (first, second), grad_out, create_graph=True)
            seconds = torch.autograd.grad([grad.square().sum() for grad in grads], (first, second, grad_out))
            results.append([out, *grads, *seconds])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def grads_and_out_of(case):
    input, logits, grad_out = case.tensors()
    out = svconv2d(input.requires_grad_(), logits.requires_grad_(), **case.options)
    return out.detach(), *torch.autograd.grad(out, (input, logits), grad_out)


def test_large_logits_do_not_overflow_and_masked_taps_weigh_nothing(device):
    input, logits = torch.randn(1, 3, 6, 7, device=device), torch.full((1, 9, 6, 7), -torch.inf, device=device)
    logits[:, 4] = 1e4
    assert torch.equal(svconv2d(input, logits, kernel_size=3), input)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 2), (9, 1)])
def test_padding_shows_in_a_softmax_alone(kernel_size, dilation, device):
    zeros = Case(shape=SHAPE, kernel_size=kernel_size, dilation=dilation, normalize=False)
    renormalised = replace(zeros, padding_mode="renormalize")
    tensors = zeros.tensors(device)
    for one, other in zip(*(run(svconv2d, *tensors, **case.options) for case in (zeros, renormalised)), strict=True):
        assert torch.equal(one, other)


def test_dilation_moves_no_tap_where_there_is_one(device):
    input, logits, _ = Case(shape=SHAPE, kernel_size=1).tensors(device)
    near, far = (svconv2d(input, logits, kernel_size=1, dilation=dilation) for dilation in (1, 2))
    assert torch.equal(near, far)


@pytest.mark.parametrize("padding_mode", ["zeros", "renormalize"])
def test_taps_out_of_reach_are_outside_however_far(padding_mode, device):
    """2**63 - 1 is the largest number that the kernels take; none of its products may overflow."""
    case = Case(shape=(1, 2, 3, 4), kernel_size=9, padding_mode=padding_mode)
    tensors = case.tensors(device)
    near = run(svconv2d, *tensors, **replace(case, dilation=4).options)
    for dilation in (5, 2**30, 2**62, 2**63 - 1):
        far = run(svconv2d, *tensors, **replace(case, dilation=dilation).options)
        assert all(torch.equal(a, b) for a, b in zip(near, far, strict=True)), dilation


@pytest.mark.parametrize("poison", ["input", "logits"])
def test_nan_comes_through(poison, device):
    input, logits = torch.zeros(1, 3, 6, 7, device=device), torch.zeros(1, 9, 6, 7, device=device)
    {"input": input, "logits": logits}[poison][0, 0, 2, 3] = torch.nan
    assert svconv2d(input, logits, kernel_size=3)[0, 0, 2, 3].isnan()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_are_never_lost(dtype, layout, device):
    for kernel_size in (3, 9, 11):
        case = NotFinite((1, 40, 9, 20), kernel_size, dtype=dtype)
        check(case, *laid_out(case.tensors(device), layout))
