"""The operator as PyTorch sees it: opcheck, fake kernels, autocast; the build."""

import subprocess
import sys

import pytest
import torch
from svconv_cases import LAYOUTS, TESTED, Case, expected
from test_svconv_precision import Recorded

import svconv
from svconv import _C, compat, ops, svconv2d

# kernel_size, dilation, groups, normalize, renormalize
RAW = [(3, 2, 2, True, True), (3, 1, 1, True, False), (1, 1, 2, False, False)]


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [(torch.float32, RAW[0]), (torch.bfloat16, RAW[0]), (torch.float64, RAW[1]), (torch.float16, RAW[2])],
    ids=str,
)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck_of_every_operator(dtype, raw, requires_grad, device):
    kernel_size, dilation, groups, _, _ = raw
    case = Case((2, 4, 5, 6), kernel_size, dilation, groups, dtype=dtype)
    input, logits, grad_out = case.tensors(device)
    products = TESTED["products"]
    lse = products.forward(input, logits, *raw)[1]
    for tensor in (input, logits, grad_out):
        tensor.requires_grad_(requires_grad)
    for operator, tensors in (
        (products.forward, (input, logits)),
        (products.grad_input, (grad_out, logits, lse)),
        (products.grad_weight, (grad_out, input, logits, lse)),
    ):
        checks = torch.library.opcheck(operator, (*tensors, *raw))
        assert len(checks) == 4 and set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_results_have_the_strides_of_real_ones(layout, device):
    input, logits, _ = (t.contiguous(memory_format=LAYOUTS[layout]) for t in Case().tensors(device))
    real = svconv2d(input, logits)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = svconv2d(mode.from_tensor(input), mode.from_tensor(logits), backend=TESTED["backend"] or device)
    assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_runs_in_its_dtype_and_gradients_keep_their_own(dtype, device):
    input, logits, _ = Case().tensors(device)
    plain = svconv2d(input.to(dtype), logits.to(dtype))
    input.requires_grad_()
    with torch.autocast(device, dtype=dtype):
        out = svconv2d(input, logits.to(dtype))
    out.float().sum().backward()
    assert out.dtype == dtype and torch.equal(out, plain)
    assert input.grad.dtype == torch.float32


def test_raw_entry_equals_the_operator(device):
    input, logits, _ = Case(kernel_size=5).tensors(device)
    with torch.inference_mode():
        assert torch.equal(ops.forward(input, logits, 5), svconv2d(input, logits, kernel_size=5))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grad", [False, True])
def test_what_derivatives_alone_read_is_left_out_where_there_are_none(layout, grad):
    """forward_into has no log-sum-exp. A channels-last result is allocated by the operator."""
    input, logits, _ = (t.contiguous(memory_format=LAYOUTS[layout]) for t in Case((2, 6, 7, 11)).tensors())
    flow, mask = input[:, :2].contiguous(), torch.randn(2, 36, 7, 11)
    with torch.set_grad_enabled(grad), Recorded() as called:
        out = svconv2d(input, logits, kernel_size=9)
        up = compat.convex_upsample(flow, mask, 2)
    spared = not grad
    assert [name for name, _ in called.calls] == [
        "forward_into" if spared and input.is_contiguous() else "forward",
        "forward_into" if spared else "forward",
    ]
    assert torch.equal(out, torch.ops.svconv.forward(input, logits, 9, 1, 1, True, False)[0])
    assert torch.equal(up, compat.convex_upsample(flow.requires_grad_(), mask, 2))
    assert out.stride() == torch.empty_like(input).stride()


def test_reference_backend():
    case = Case(dtype=torch.float64)
    input, logits, _ = case.tensors()
    torch.testing.assert_close(svconv2d(input, logits, backend="reference"), expected(case)[0])


def test_build_info_tells_the_instruction_set(instruction_set):
    info = svconv.build_info()
    assert info["active_instruction_set"] == instruction_set
    assert info["instruction_sets"]["baseline"] is True
    assert info["cuda"].startswith(("none: ", "sm_"))


def test_forcing_none_returns_to_the_widest():
    _C.force_instruction_set("baseline")
    _C.force_instruction_set(None)
    widest = [name for name, supported in _C.instruction_sets().items() if supported][-1]
    assert _C.active_instruction_set() == widest


def test_imports_run_one_way():
    program = "import svconv, sys; raise SystemExit(any(m.split('.')[0] == 'lowlat' for m in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
    program = (
        "import sys; from importlib.machinery import ExtensionFileLoader as L; "
        "import importlib.util as u; s = u.spec_from_file_location('svconv._C', sys.argv[1]); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); raise SystemExit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, _C.__file__], check=True)


def test_memory_is_filled_with_nan_in_these_tests(device):
    assert torch.empty(3, device=device).isnan().all()
    assert torch.empty_like(torch.zeros(2, 3, 4, 5, device=device)).isnan().all()
