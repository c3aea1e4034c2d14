"""torch.func, the FLOP counter, deterministic mode, autocast, tensors without data; copies of the module."""

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
from svconv_cases import Case
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils.flop_counter import FlopCounterMode

from svconv import SVConv2d, reference, svconv2d

OPTIONS = [
    Case((2, 4, 3, 5), kernel_size=3, dilation=2, groups=2, padding_mode="renormalize", dtype=torch.float64),
    Case((1, 4, 5, 3), kernel_size=3, normalize=False, dtype=torch.float64),
]
SMALL = Case((1, 2, 2, 3), kernel_size=3, groups=2, padding_mode="renormalize", dtype=torch.float64)


def batch(case, device, size=3):
    """`size` different inputs and logits, stacked in front."""
    tensors = [torch.stack([t * (1 + b) / size for b in range(size)]) for t in case.tensors(device)]
    return tensors[:2]


def functions(case):
    """The operator and its reference, as functions of input and logits."""
    return tuple(lambda *t, f=f: f(*t, **case.options) for f in (svconv2d, reference.svconv2d))


@pytest.mark.parametrize("in_dims", [(0, 0), (2, 4), (0, None), (None, 1), (-1, 3)], ids=str)
@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_vmap_over_any_dimension_is_a_loop(case, in_dims, device):
    stacked = batch(case, device)
    want = [
        svconv2d(*(t[0 if d is None else b] for t, d in zip(stacked, in_dims, strict=True)), **case.options)
        for b in range(3)
    ]
    mapped = [t[0] if d is None else t.movedim(0, d) for t, d in zip(stacked, in_dims, strict=True)]
    got = vmap(functions(case)[0], in_dims=in_dims)(*mapped)
    torch.testing.assert_close(got, torch.stack(want))


def test_vmap_in_vmap(device):
    x, logits = batch(OPTIONS[0], device)
    ours, _ = functions(OPTIONS[0])
    got = vmap(vmap(ours, in_dims=(None, 0)), in_dims=(0, None))(x, logits)
    want = torch.stack([torch.stack([ours(a, b) for b in logits]) for a in x])
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_gradients_per_sample_are_those_of_a_loop(case, device):
    ours, theirs = functions(case)

    def gradient(function):
        return grad(lambda *t: function(*t).pow(3).sum(), argnums=(0, 1))

    stacked = batch(case, device)
    got = vmap(gradient(ours))(*stacked)
    want = [gradient(theirs)(*sample) for sample in zip(*stacked, strict=True)]
    torch.testing.assert_close(got, tuple(torch.stack(grads) for grads in zip(*want, strict=True)))


@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_jacobians(case, jacobian, device):
    input, logits, _ = case.tensors(device)
    got, want = (jacobian(function, argnums=(0, 1))(input, logits) for function in functions(case))
    torch.testing.assert_close(got, want)


SECOND = {
    "forward over reverse": hessian,
    "reverse over reverse": lambda f, argnums: jacrev(jacrev(f, argnums), argnums),
    "reverse over forward": lambda f, argnums: jacrev(jacfwd(f, argnums), argnums),
    "forward over forward": lambda f, argnums: jacfwd(jacfwd(f, argnums), argnums),
}


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("normalize", [True, False])
def test_hessians(normalize, second, device):
    case = Case((1, 2, 2, 3), 3, groups=2, normalize=normalize, padding_mode="renormalize", dtype=torch.float64)
    input, logits, _ = case.tensors(device)
    got, want = (SECOND[second](lambda *t, f=f: f(*t).pow(3).sum(), (0, 1))(input, logits) for f in functions(case))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("strategy", ["forward-mode", "reverse-mode"])
@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_hessians_of_autograd_in_one_batch(case, strategy):
    """`vectorize`, `is_grads_batched` and gradgradcheck's `check_batched_grad` share torch's older vmap."""
    case = replace(case, shape=(1, 2, 2, 3))
    input, logits, _ = case.tensors()
    got, want = (
        torch.autograd.functional.hessian(
            lambda *t, f=f: f(*t).pow(3).sum(), (input, logits), vectorize=True, outer_jacobian_strategy=strategy
        )
        for f in functions(case)
    )
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_hessian_vector_products(case, device):
    input, logits, direction = case.tensors(device)
    results = []
    for function in functions(case):
        gradient = grad(lambda *t, f=function: f(*t).pow(3).sum(), argnums=(0, 1))
        forward_over_reverse = jvp(lambda x, g=gradient: g(x, logits), (input,), (direction,))[1]
        reverse_over_reverse = vjp(lambda x, g=gradient: g(x, logits)[0], input)[1](direction)
        results.append((*forward_over_reverse, *reverse_over_reverse))
    torch.testing.assert_close(*results)


def test_derivatives_through_a_module_called_functionally(device):
    input, logits, _ = SMALL.tensors(device)
    module = SVConv2d(**SMALL.options)
    got = grad(lambda x: functional_call(module, {}, (x, logits)).pow(3).sum())(input)
    want = grad(lambda x: reference.svconv2d(x, logits, **SMALL.options).pow(3).sum())(input)
    torch.testing.assert_close(got, want)


def test_saving_for_forward_mode_keeps_nothing_for_reverse_mode(device):
    """grad_input needs no input: saving for forward mode must not hold on to it."""
    input, logits, _ = Case(kernel_size=3).tensors(device)
    out = svconv2d(input.requires_grad_(), logits, kernel_size=3)
    assert [t is None for t in out.grad_fn.saved_tensors] == [True, False, False]


def test_flops_of_each_product(device):
    case = Case((2, 6, 7, 5), kernel_size=3, groups=2)
    input, logits, grad_out = case.tensors(device)
    one = 2 * 2 * 6 * 7 * 5 * 9  # a multiplication and an addition for every element and tap
    with FlopCounterMode(display=False) as counter:
        out = svconv2d(input.requires_grad_(), logits.requires_grad_(), **case.options)
    assert counter.get_total_flops() == one
    with counter:
        out.backward(grad_out)
    assert counter.get_total_flops() == 2 * one


def test_deterministic_mode_is_satisfied(device):
    """Everything is deterministic: no error, no warning, the same bits."""
    case = Case(kernel_size=3)
    input, logits, grad_out = case.tensors(device)
    torch.use_deterministic_algorithms(True)
    results = []
    for _ in range(2):
        x, y = input.detach().requires_grad_(), logits.detach().requires_grad_()
        grads = torch.autograd.grad(svconv2d(x, y, kernel_size=3), (x, y), grad_out, create_graph=True)
        results.append((*grads, *torch.autograd.grad([g.square().sum() for g in grads], (x, y))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_double_backward_of_an_operator_that_ran_under_autocast(dtype, device):
    input, logits, _ = Case(kernel_size=3).tensors(device)
    input.requires_grad_()
    logits.requires_grad_()
    with torch.autocast(device, dtype=dtype):
        out = svconv2d(input, logits, kernel_size=3)
    grads = torch.autograd.grad(out.float().square().sum(), (input, logits), create_graph=True)
    second = torch.autograd.grad([g.square().sum() for g in grads], (input, logits))
    # The same in plain tensors of the autocast type.
    cast = [t.detach().to(dtype).float().requires_grad_() for t in (input, logits)]
    out = reference.svconv2d(*cast, kernel_size=3)
    grads = torch.autograd.grad(out.square().sum(), cast, create_graph=True)
    want = torch.autograd.grad([g.square().sum() for g in grads], cast)
    for got, exact in zip(second, want, strict=True):
        assert got.dtype == torch.float32
        tolerance = 8 * torch.finfo(dtype).eps * exact.abs().max().item()
        torch.testing.assert_close(got, exact, rtol=0, atol=tolerance)


def test_meta_tensors_go_through_every_derivative():
    case = Case((2, 4, 5, 6), kernel_size=3, groups=2, dtype=torch.bfloat16)
    input, logits, grad_out = (t.to("meta", memory_format=torch.channels_last) for t in case.tensors())
    out, lse = torch.ops.svconv.forward(input.requires_grad_(), logits.requires_grad_(), 3, 1, 2, True, True)
    assert lse.shape == (2, 2, 5, 6) and lse.dtype == torch.float32
    grads = torch.autograd.grad(out, (input, logits), grad_out, create_graph=True)
    second = torch.autograd.grad(grads, (input, logits), (input.detach(), logits.detach()))
    for result, like in zip((out, *grads, *second), (input, *(input, logits) * 2), strict=True):
        assert (result.shape, result.dtype, result.device) == (like.shape, like.dtype, like.device)
        assert result.stride() == like.stride()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_products_of_fake_cuda_tensors_stay_on_their_device(dtype):
    with torch._subclasses.FakeTensorMode():
        input = torch.empty(2, 4, 5, 6, dtype=dtype, device="cuda", memory_format=torch.channels_last)
        logits = torch.empty(2, 18, 5, 6, dtype=dtype, device="cuda")
        out, lse = torch.ops.svconv.forward(input, logits, 3, 1, 2, True, False)
        grad_input = torch.ops.svconv.grad_input(out, logits, lse, 3, 1, 2, True, False)
        grad_logits = torch.ops.svconv.grad_weight(out, input, logits, lse, 3, 1, 2, True, False)
        for result, like in ((out, input), (grad_input, input), (grad_logits, logits)):
            assert (result.shape, result.dtype, result.device) == (like.shape, dtype, input.device)
            assert result.stride() == like.stride()
        assert lse.device == input.device and lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def saved_and_loaded(module):
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("duplicate", COPIES)
def test_copies_of_the_module_compute_the_same(duplicate, device):
    case = Case(kernel_size=3, dilation=2, groups=2, padding_mode="renormalize")
    module = COPIES[duplicate](SVConv2d(**case.options))
    input, logits, _ = case.tensors(device)
    assert torch.equal(module(input, logits), svconv2d(input, logits, **case.options))
    assert "kernel_size=3, dilation=2, groups=2" in repr(module)


def test_module_has_no_state():
    module = SVConv2d(kernel_size=3)
    assert module.state_dict() == {}
    module.load_state_dict({})
