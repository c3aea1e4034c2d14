"""`correlation2d`: every type, layout, option and backend against the float64 reference, and its derivatives."""

import re
from dataclasses import replace
from itertools import product

import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, TESTED, Case, assert_close, path_on

from svconv import correlation2d, reference, svconv2d
from svconv.dispatch import BACKENDS

SHAPE = TESTED["shape"]
CASES = [
    Case(shape=(2, 6, 7, 11), kernel_size=k, dilation=d, groups=g)
    for k, d, g in product((3, 9) if TESTED["interpreted"] else (1, 3, 9, 11), (1, 2), (1, 3))
    if k > 1 or d == 1
]
SIZES = [Case(shape=shape) for shape in ((1, 1, 1, 1), (1, 3, 2, 300), (1, 3, 140, 2), (1, 7, 4, 3), (1, 70, 37, 61))]


def options_of(case: Case) -> dict[str, int]:
    return {name: getattr(case, name) for name in ("kernel_size", "dilation", "groups")}


def pair(case: Case, device: str, layout: str = "nchw") -> list[torch.Tensor]:
    key, _, query = case.tensors(device)
    return [t.contiguous(memory_format=LAYOUTS[layout]) for t in (query, key)]


def check(case: Case, device: str, layout: str) -> None:
    query, key = pair(case, device, layout)
    got = correlation2d(query, key, **options_of(case))
    want = reference.correlation2d(query.cpu().double(), key.cpu().double(), **options_of(case))
    assert_close(case, "grad_logits", got, want, path_on(case, got.device))
    assert got.is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.sample(5)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_correlation_of_every_type_layout_and_option(case, dtype, layout, device):
    check(replace(case, dtype=dtype), device, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_correlation_of_every_size(case, layout, device):
    check(case, device, layout)


def test_the_reference_is_the_derivative_by_the_weights():
    case = Case(shape=(2, 6, 5, 7), kernel_size=3, dilation=2, groups=3, dtype=torch.float64)
    key, weights, query = case.tensors()
    weights.requires_grad_()
    out = reference.svconv2d(key, weights, normalize=False, **options_of(case))
    (want,) = torch.autograd.grad(out, weights, query)
    torch.testing.assert_close(reference.correlation2d(query, key, **options_of(case)), want)


def test_a_tap_reads_where_svconv2d_reads():
    query, key = torch.ones(1, 1, 5, 6), torch.zeros(1, 1, 5, 6)
    key[0, 0, 1, 4] = 1
    tap = correlation2d(query, key, kernel_size=3)[0, :, 2, 3].argmax()
    weights = torch.zeros(1, 9, 5, 6)
    weights[0, tap] = 1
    assert svconv2d(key, weights, kernel_size=3, normalize=False)[0, 0, 2, 3] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_every_type_and_layout(dtype, layout, device):
    case = Case(shape=SHAPE, dtype=dtype)
    query, key = (t.requires_grad_() for t in pair(case, device, layout))
    out = correlation2d(query, key)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    got = torch.autograd.grad(out, (query, key), cotangent)
    exact = [t.detach().cpu().double().requires_grad_() for t in (query, key)]
    want = torch.autograd.grad(reference.correlation2d(*exact), exact, cotangent.cpu().double())
    for name, a, b in zip(("out", "grad_input"), got, want, strict=True):
        assert_close(case, name, a, b, path_on(case, a.device))
        assert a.is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("groups", (1, 2))
def test_first_and_second_derivatives_of_correlation(groups, device):
    case = Case(shape=(1, 4, 3, 5), kernel_size=3, groups=groups, dtype=torch.float64)
    query, key = (t.requires_grad_() for t in pair(case, device))

    def function(query, key):
        return correlation2d(query, key, **options_of(case))

    # Entry by entry takes minutes in an interpreter.
    quick = dict(fast_mode=TESTED["interpreted"])
    assert torch.autograd.gradcheck(function, (query, key), check_forward_ad=True, **quick)
    assert torch.autograd.gradgradcheck(function, (query, key), **quick)


@pytest.mark.sample(3)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_correlation_by_slices(case, dtype):
    # They are chosen in an export alone; here they are called by themselves.
    case = replace(case, dtype=dtype)
    query, key = pair(case, "cpu")
    got = BACKENDS["slices"].correlate(query, key, **options_of(case))
    want = reference.correlation2d(query.double(), key.double(), **options_of(case))
    assert_close(case, "grad_logits", got, want)


def test_correlations_repeat_bit_for_bit_whatever_the_number_of_threads():
    query, key = pair(Case(shape=(1, 40, 35, 70)), "cpu")
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(correlation2d(query, key))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], result) for result in results[1:])


def test_correlation_runs_in_the_autocast_dtype(device):
    query, key = pair(Case(shape=SHAPE), device)
    query.requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16):
        out = correlation2d(query, key.half())
        with pytest.raises(TypeError, match="^correlation2d: .*key.dtype=torch.float64"):
            correlation2d(query, key.double())
        assert correlation2d(query.double(), key.double()).dtype == torch.float64
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, correlation2d(query.bfloat16(), key.half().bfloat16()))
    out.float().sum().backward()
    assert query.grad.dtype == torch.float32


def test_correlation_compiles_to_one_graph_for_all_sizes():
    query, key = pair(Case(shape=(2, 6, 9, 13)), "cpu")
    compiled = torch.compile(correlation2d, backend="aot_eager", fullgraph=True, dynamic=True)
    for tensors in ((query, key), [t[:1, :, :7, :8].contiguous() for t in (query, key)]):
        assert torch.equal(compiled(*tensors), correlation2d(*tensors))


BAD = {
    "even kernel": (torch.zeros(1, 4, 5, 6), dict(kernel_size=4), ValueError, "odd kernel_size, got 4"),
    "indivisible": (torch.zeros(1, 4, 5, 6), dict(groups=3), ValueError, "got 4 channels and groups=3"),
    "another size": (torch.zeros(1, 4, 6, 5), {}, ValueError, "got (1, 4, 5, 6) and (1, 4, 6, 5)"),
    "another type": (torch.zeros(1, 4, 5, 6).half(), {}, TypeError, "key.dtype=torch.float16"),
    "no batch": (torch.zeros(4, 5, 6), {}, ValueError, "unsqueeze(0)"),
    "another device": (torch.zeros(1, 4, 5, 6, device="meta"), {}, ValueError, "one device"),
    "not a tensor": ([[1.0]], {}, TypeError, "key to be a torch.Tensor, got list"),
    "backend": (torch.zeros(1, 4, 5, 6), dict(backend="opencl"), ValueError, "got 'opencl'"),
    "softmax's padding": (torch.zeros(1, 4, 5, 6), dict(padding_mode="renormalize"), ValueError, "got 'renormalize'"),
    "scale": (torch.zeros(1, 4, 5, 6), dict(scale=5), ValueError, "(N, C, 5 * H, 5 * W) and (N, C, H, W)"),
    "small key": (torch.zeros(1, 4, 5, 6), dict(kernel_size=7, padding_mode="shift"), ValueError, "key of at least 7"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_of_correlation(case):
    key, options, error, message = BAD[case]
    with pytest.raises(error, match="^correlation2d: .*" + re.escape(message)):
        correlation2d(torch.zeros(1, 4, 5, 6), key, **{"kernel_size": 3, **options})
