"""The operator as PyTorch sees it: opcheck, gradcheck, fake kernels, compile, autocast; the module; the build."""

import copy
import subprocess
import sys

import pytest
import torch
from svconv_cases import LAYOUTS, Case, expected

import svconv
from svconv import _C, SVConv2d, ops, svconv2d

RAW = (3, 2, 2, True, True)  # kernel_size, dilation, groups, normalize, renormalize


def raw_tensors(dtype=torch.float32):
    input, logits, grad_out = Case(shape=(2, 4, 5, 6), kernel_size=3, groups=2, dtype=dtype).tensors()
    lse = torch.ops.svconv.forward(input, logits, *RAW)[1]
    return input, logits, grad_out, lse


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck_of_every_operator(dtype):
    input, logits, grad_out, lse = raw_tensors(dtype)
    torch.library.opcheck(torch.ops.svconv.grad_input.default, (grad_out, logits, lse, *RAW))
    torch.library.opcheck(torch.ops.svconv.grad_weight.default, (grad_out, input, logits, lse, *RAW))
    torch.library.opcheck(torch.ops.svconv.forward.default, (input, logits, *RAW))
    with_grad = (input.requires_grad_(), logits.requires_grad_())
    torch.library.opcheck(torch.ops.svconv.forward.default, (*with_grad, *RAW))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("padding_mode", ["zeros", "renormalize"])
def test_gradcheck(normalize, padding_mode):
    case = Case(shape=(1, 4, 3, 5), kernel_size=3, groups=2, dtype=torch.float64)
    input, logits, _ = case.tensors()
    module = SVConv2d(3, groups=2, normalize=normalize, padding_mode=padding_mode)
    assert torch.autograd.gradcheck(module, (input.requires_grad_(), logits.requires_grad_()))


@pytest.mark.parametrize("wanted", ["input", "logits"])
def test_only_the_gradient_asked_for_is_computed(wanted):
    case = Case()
    input, logits, grad_out = case.tensors()
    {"input": input, "logits": logits}[wanted].requires_grad_()
    out = svconv2d(input, logits)
    with torch.profiler.profile() as profile:
        out.backward(grad_out)
    called = {event.key for event in profile.key_averages() if event.key.startswith("svconv::")}
    assert called == {"svconv::grad_input" if wanted == "input" else "svconv::grad_weight"}


def test_no_grad_of_input_keeps_no_input():
    input, logits, _ = Case().tensors()
    out = svconv2d(input.requires_grad_(), logits)
    saved = [t for t in out.grad_fn.saved_tensors if t is not None]
    assert all(t.shape != input.shape for t in saved)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_results_have_the_strides_of_real_ones(layout):
    input, logits, _ = (t.contiguous(memory_format=LAYOUTS[layout]) for t in Case().tensors())
    real = svconv2d(input, logits)
    with torch._subclasses.FakeTensorMode() as mode:
        fake = svconv2d(mode.from_tensor(input), mode.from_tensor(logits), backend="cpu")
    assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


def test_compiles_without_graph_breaks():
    case = Case()
    input, logits, grad_out = case.tensors()
    compiled = torch.compile(svconv2d, fullgraph=True, backend="aot_eager")
    out = compiled(input.requires_grad_(), logits.requires_grad_())
    out.backward(grad_out)
    for got, want in zip((out, input.grad, logits.grad), expected(case), strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_runs_in_its_dtype_and_gradients_keep_their_own(dtype):
    input, logits, _ = Case().tensors()
    plain = svconv2d(input.to(dtype), logits.to(dtype))
    input.requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        out = svconv2d(input, logits.to(dtype))
    out.float().sum().backward()
    assert out.dtype == dtype and torch.equal(out, plain)
    assert input.grad.dtype == torch.float32


def test_raw_entry_equals_the_operator():
    input, logits, _ = Case(kernel_size=5).tensors()
    with torch.inference_mode():
        assert torch.equal(ops.forward(input, logits, 5), svconv2d(input, logits, kernel_size=5))


def test_reference_backend():
    case = Case(dtype=torch.float64)
    input, logits, _ = case.tensors()
    torch.testing.assert_close(svconv2d(input, logits, backend="reference"), expected(case)[0])


def test_module_is_the_function_and_copies():
    case = Case(kernel_size=3, dilation=2, groups=2, padding_mode="renormalize")
    module = copy.deepcopy(SVConv2d(**case.options))
    input, logits, _ = case.tensors()
    assert torch.equal(module(input, logits), svconv2d(input, logits, **case.options))
    assert module.state_dict() == {}
    assert "kernel_size=3, dilation=2, groups=2" in repr(module)


def test_build_info_tells_the_instruction_set(instruction_set):
    info = svconv.build_info()
    assert info["active_instruction_set"] == instruction_set
    assert info["instruction_sets"]["baseline"] is True
    assert info["cuda"].startswith("none")


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


def test_memory_is_filled_with_nan_in_these_tests():
    assert torch.empty(3).isnan().all()
    assert torch.empty_like(torch.zeros(2, 3, 4, 5)).isnan().all()
