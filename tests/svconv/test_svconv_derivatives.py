"""Derivatives of every order, reverse and forward, and that only those asked for are computed."""

from itertools import product

import pytest
import torch
from svconv_cases import LAYOUTS, TESTED, Case, assert_close, check, path_on

from svconv import reference, svconv2d

# Derivatives are the same code for all kernels: in an interpreter one kernel size will do.
SIZES = (3,) if TESTED["interpreted"] else (1, 3, 5)
# Padding shows in a softmax alone; neither padding nor dilation shows where there is one tap.
PADDED = ((True, "zeros"), (True, "renormalize"), (False, "zeros"))
CASES = [
    Case((1, 2, 3, 4), kernel_size=k, dilation=d, groups=g, normalize=norm, padding_mode=padding, dtype=torch.float64)
    for k, d, g, (norm, padding) in product(SIZES, (1, 2), (1, 2), PADDED)
    if k > 1 or (d == 1 and padding == "zeros")
]
PRODUCTS = {"svconv::forward", "svconv::grad_input", "svconv::grad_weight"}
# Operators of another backend do the same under another name.
ALIASES = {"svconv::triton_" + name.removeprefix("svconv::"): name for name in PRODUCTS}


def leaves(case, device):
    input, logits, _ = case.tensors(device)
    return input.requires_grad_(), logits.requires_grad_()


def gradients(case, function=svconv2d):
    """A function of input and logits: both gradients, of a loss that has every higher derivative."""

    def of(input, logits):
        loss = function(input, logits, **case.options).pow(3).sum()
        return torch.autograd.grad(loss, (input, logits), create_graph=True)

    return of


@pytest.mark.sample(5)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_first_and_second_derivatives_are_those_of_finite_differences(case, device):
    def function(input, logits):
        return svconv2d(input, logits, **case.options)

    # The fast mode checks one random direction and misses a wrong small term; K = 3 is checked entry by entry, but not
    # in an interpreter.
    quick = dict(fast_mode=case.kernel_size != 3 or TESTED["interpreted"], check_undefined_grad=False)
    assert torch.autograd.gradcheck(function, leaves(case, device), check_forward_ad=True, **quick)
    assert torch.autograd.gradgradcheck(function, leaves(case, device), **quick)


@pytest.mark.parametrize(("normalize", "padding_mode"), PADDED)
def test_third_derivatives_are_those_of_finite_differences(normalize, padding_mode, device):
    case = Case((1, 2, 3, 2), 3, groups=2, normalize=normalize, padding_mode=padding_mode, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(gradients(case), leaves(case, device), fast_mode=True)


def test_a_gradient_that_nobody_needs_may_be_undefined(device):
    case = Case((1, 2, 3, 5), kernel_size=3, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda *t: svconv2d(*t, **case.options), leaves(case, device), fast_mode=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("padding_mode", ["zeros", "renormalize"])
def test_double_backward_of_every_type_and_layout(padding_mode, dtype, layout, device):
    """Second derivatives round once more in the type of the tensors: the softmax's result feeds a product."""
    case = Case((2, 6, 7, 11), kernel_size=5, dilation=2, groups=2, padding_mode=padding_mode, dtype=dtype)

    def second(function, tensors):
        input, logits, grad_out = (t.detach().requires_grad_() for t in tensors)
        out = function(input, logits, **case.options)
        grads = torch.autograd.grad(out, (input, logits), grad_out, create_graph=True)
        return torch.autograd.grad(grads, (input, logits, grad_out), [t.detach() for t in (input, logits)])

    tensors = [t.contiguous(memory_format=LAYOUTS[layout]) for t in case.tensors(device)]
    want = second(reference.svconv2d, [t.double() for t in case.tensors()])
    for tensor, got, exact in zip(tensors, second(svconv2d, tensors), want, strict=True):
        assert got.dtype == dtype and got.stride() == tensor.stride()
        scale = exact.abs().max().item()
        torch.testing.assert_close(got.double().cpu(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps * scale)


def profiled(function):
    """The products that `function` calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        function()
    names = [ALIASES.get(e.key, e.key) for e in profile.key_averages() for _ in range(e.count)]
    return [name for name in names if name in PRODUCTS]


@pytest.mark.parametrize(("wanted", "called"), [("input", ["svconv::grad_input"]), ("logits", ["svconv::grad_weight"])])
def test_only_the_gradient_asked_for_is_computed(wanted, called, device):
    input, logits, grad_out = Case().tensors(device)
    {"input": input, "logits": logits}[wanted].requires_grad_()
    out = svconv2d(input, logits)
    assert profiled(lambda: out.backward(grad_out)) == called


@pytest.mark.parametrize(
    ("trained", "called"),
    [
        (["input"], set()),  # linear in input alone
        (["input", "grad_out"], {"svconv::forward"}),
        (["logits"], {"svconv::grad_weight"}),
        (["logits", "grad_out"], {"svconv::forward", "svconv::grad_weight"}),
    ],
    # A set has another order in each of the processes that share the tests.
    ids=lambda names: "-".join(sorted(names)),
)
def test_double_backward_computes_nothing_for_a_frozen_tensor(trained, called, device):
    tensors = dict(zip(("input", "logits", "grad_out"), Case(kernel_size=3).tensors(device), strict=True))
    wanted = [tensors[name].requires_grad_() for name in trained]
    out = svconv2d(tensors["input"], tensors["logits"], kernel_size=3)
    (grad,) = torch.autograd.grad(out, wanted[0], tensors["grad_out"], create_graph=True)
    second = profiled(lambda: torch.autograd.grad(grad.sum(), wanted, allow_unused=True)) if called else []
    assert grad.requires_grad == bool(called)
    assert set(second) == called and len(second) == len(called)


def test_training_with_frozen_features_never_computes_their_gradient(device):
    """Second derivatives of the logits take grad_weight and forward; grad_input belongs to the features alone."""
    input, logits, _ = Case(kernel_size=3).tensors(device)
    logits.requires_grad_()

    def step():
        loss = svconv2d(input, logits, kernel_size=3).square().sum()
        (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
        grad.square().sum().backward()

    assert set(profiled(step)) == {"svconv::forward", "svconv::grad_weight"}


def cuda_allocations():
    """Bytes ever taken from the caching allocator."""
    return torch.cuda.memory_stats()["allocated_bytes.all.allocated"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dense_layouts_are_never_copied(layout, dtype, device):
    """Forward and backward allocate their results and nothing else, also for the expanded grad_out of a sum."""
    case = Case((2, 32, 24, 40), dtype=dtype)
    input, logits, grad_out = (t.contiguous(memory_format=LAYOUTS[layout]) for t in case.tensors(device))
    expanded = torch.ones((), dtype=dtype, device=device).expand_as(input)
    results = sum(t.nbytes for t in (input, input, logits)) * 2
    lse = 2 * 4 * input[:, 0].numel()
    before = cuda_allocations() if device == "cuda" else 0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for grad in (grad_out, expanded):
            out = svconv2d(input.requires_grad_(), logits.requires_grad_())
            torch.autograd.grad(out, (input, logits), grad)
    names = {event.key for event in profile.key_averages()}
    assert not names & {"aten::copy_", "aten::clone", "aten::_to_copy"}
    if device == "cuda":
        allocated = cuda_allocations() - before
    else:
        allocated = sum(e.self_cpu_memory_usage for e in profile.events() if e.self_cpu_memory_usage > 0)
    assert results + lse <= allocated < 1.1 * (results + lse)


@pytest.mark.parametrize("kernel_size", range(3, 16, 2))
@pytest.mark.parametrize("dilation", [2, 5])
def test_any_odd_kernel_at_any_dilation(kernel_size, dilation, device):
    case = Case((1, 6, 9, 13), kernel_size, dilation, padding_mode="renormalize")
    check(case, *case.tensors(device))


@pytest.mark.memory
def test_more_elements_than_32_bits_can_count(device):
    """N*C*H*W > 2**31: 9 GB of bfloat16. Pixels at both ends are those of a frame cropped around them."""
    c, h, w = 2112, 1000, 1024
    assert c * h * w > 2**31
    input = torch.empty(1, c, h, w, dtype=torch.bfloat16, device=device)
    for channels in input[0].split(64):
        channels.copy_(torch.randn(64, h, w, device=device)[: len(channels)])
    logits = torch.randn(1, 9, h, w, device=device).bfloat16()
    out = svconv2d(input, logits, kernel_size=3)
    case = Case((1, 64, 7, w), kernel_size=3, dtype=torch.bfloat16)
    for rows, inner in ((slice(0, 8), slice(0, 7)), (slice(h - 8, h), slice(1, 8))):
        for channels in (slice(0, 64), slice(c - 64, c)):
            crop, its_logits = input[:, channels, rows].double(), logits[:, :, rows].double()
            want = reference.svconv2d(crop, its_logits, kernel_size=3)[:, :, inner].cpu()
            assert_close(case, "out", out[:, channels, rows][:, :, inner], want, path_on(case, out.device))
