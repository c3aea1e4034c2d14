"""The checks bite: every fault of triton_faults.py, planted in a copy of the kernels, makes the operator's check fail.
Runs in Triton's interpreter (test_interpreted.py)."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import svconv_cases
import torch
from svconv_cases import LAYOUTS, TESTED, NotFinite, run
from triton_faults import FAULTS
from triton_interpreter import check_overflow

from svconv import reference, svconv2d
from svconv.triton import band, launch

SOURCES = Path(band.__file__).parent
FILES = ("tiles", "band", "taps")
KERNELS = ("band_sum", "band_gradient", "taps_sum", "taps_gradient", "taps_jacobian")

if TESTED["backend"] != "triton":
    raise RuntimeError("expected the operator's tests beside these: pytest --backend triton tests/svconv tests/triton")


def check(case):
    """In both layouts; logits that only a softmax with a maximum survives."""
    for layout in LAYOUTS.values():
        input, logits, grad_out = (t.contiguous(memory_format=layout) for t in case.tensors())
        svconv_cases.check(case, input, logits, grad_out)
    if isinstance(case, NotFinite):
        return
    large = torch.full_like(logits, -torch.inf)
    large[:, :: case.kernel_size**2] = 1e4
    options = {**case.options, "padding_mode": "zeros"}
    want = reference.svconv2d(input.double(), large.double(), **options)
    torch.testing.assert_close(svconv2d(input, large, **options, backend="triton").double(), want)


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Puts a copy of the kernels with a fault in the place of the kernels."""

    def planted(fault):
        text = (SOURCES / fault.file).read_text()
        if text.count(fault.text) != 1:
            raise LookupError(
                f"{fault.name}: {fault.file} has {text.count(fault.text)} times {fault.text!r}; "
                "bring triton_faults.py up to it"
            )
        for name in FILES:
            source = (SOURCES / f"{name}.py").read_text()
            if fault.file == f"{name}.py":
                source = source.replace(fault.text, fault.replacement)
            (tmp_path / f"{name}.py").write_text(source)
            spec = importlib.util.spec_from_file_location(f"svconv.triton.{name}", tmp_path / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            # The copies import each other.
            monkeypatch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)
            for kernel in KERNELS:
                if hasattr(module, kernel):
                    monkeypatch.setattr(launch, kernel, getattr(module, kernel))

    return planted


@pytest.mark.parametrize("case", dict.fromkeys(fault.case for fault in FAULTS), ids=str)
def test_the_checks_hold_without_a_fault(case):
    check_overflow(True)
    try:
        check(case)
    finally:
        check_overflow(False)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_caught(fault, plant):
    plant(fault)
    with pytest.raises(AssertionError):
        check(fault.case)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_repeat_bit_for_bit(dtype):
    case = replace(FAULTS[0].case, dtype=dtype)
    first, second = (run(svconv2d, *case.tensors(), **case.options, backend="triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_offsets_of_64_bits_are_those_of_32(dtype, monkeypatch):
    case = replace(FAULTS[0].case, dtype=dtype)
    short = run(svconv2d, *case.tensors(), **case.options, backend="triton")
    monkeypatch.setattr(launch, "_wide", lambda *tensors: True)
    for a, b in zip(short, run(svconv2d, *case.tensors(), **case.options, backend="triton"), strict=True):
        assert torch.equal(a, b)


def test_tf32_takes_the_band_and_float32_is_exact_without():
    input = torch.empty(1, 2, 3, 4)
    assert launch._family(input, 5, tf32=False) == "taps"
    assert launch._family(input, 5, tf32=True) == "band" and launch._family(input, 17, tf32=True) == "taps"


def test_the_bound_for_tf32_allows_what_the_products_cut_off_and_no_more():
    """A weight of 1 at the centre, and operands that lose all they can: the lower 13 bits."""
    case = svconv_cases.Case((1, 2, 5, 6), 3, normalize=False)
    whole, upper_bits = 1 + 2.0**-10 - 2.0**-23, 1.0
    want, got = (torch.full(case.shape, number**2) for number in (whole, upper_bits))
    svconv_cases.assert_close(case, "out", got, want.double(), "tf32 cut off")
    with pytest.raises(AssertionError):
        svconv_cases.assert_close(case, "out", got, want.double(), "tf32")
    matmul, device = torch.backends.cuda.matmul, torch.device("cuda")
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        assert svconv_cases.path_on(case, device) == "tf32 cut off"
        assert svconv_cases.path_on(replace(case, kernel_size=11), device) == "generic"
    finally:
        matmul.fp32_precision = before


def test_a_type_without_kernels_is_refused_not_taken_for_another():
    input, logits = torch.ones(1, 2, 3, 4, dtype=torch.int16), torch.ones(1, 9, 3, 4, dtype=torch.int16)
    with pytest.raises(RuntimeError, match=r"svconv::triton_forward: expected one of .*input.dtype=torch.int16"):
        torch.ops.svconv.triton_forward(input, logits, 3, 1, 1, True, False)
