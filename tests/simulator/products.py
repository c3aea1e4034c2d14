"""The operator's three products through the simulated kernels, on the cases of tests/svconv."""

from dataclasses import astuple, dataclass
from functools import cache
from math import nan

import numpy as np
import simulated
import torch
from simulated import Program
from svconv_cases import NAMES, Case, assert_close, expected

PRODUCTS = ("forward", "grad_input", "grad_weight")
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
PATHS = ("generic", "fma", "band", "tf32")
ERRORS = {0: "success", 1: "invalid value", 9: "invalid configuration"}


@dataclass(frozen=True)
class Launch:
    """A kernel and how the problem is cut for it, as in csrc/cuda/kernels.h."""

    path: str = "generic"
    columns: int = 1
    rows: int = 1
    splits: int = 1
    parts: int = 1
    stages: int = 1

    def __str__(self) -> str:
        return f"{self.path}-{self.columns}x{self.rows}-{self.splits}-{self.parts}-{self.stages}"


@dataclass(frozen=True)
class Device:
    """The facts about a GPU for which a launch is chosen."""

    processors: int = 132
    shared_bytes: int = 227 << 10
    tf32: bool = False  # is asked for, in place of exact float32


H200 = Device()
SM_120 = Device(processors=170, shared_bytes=99 << 10)
TF32 = Device(tf32=True)


def sources() -> list:
    return [simulated.HERE / "products.cpp", *sorted(simulated.KERNELS.glob("*.cu"))]


def lay_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """Return the numbers of an (N, C, H, W) tensor in other strides. Views lie in NaN, and off every alignment but
    their own."""
    if layout == "nchw":
        return tensor.contiguous()
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    n, c, h, w = tensor.shape
    if layout == "view":
        return torch.full((n, c + 1, h + 2, w + 3), nan, dtype=tensor.dtype)[:, 1:, 1:-1, 2:-1].copy_(tensor)
    if layout == "channels_last_view":
        return torch.full((n, h, w + 1, c + 3), nan, dtype=tensor.dtype)[:, :, 1:, 3:].permute(0, 3, 1, 2).copy_(tensor)
    assert layout == "wide_strides"
    return torch.full((n, 2 * c, h, 2 * w), nan, dtype=tensor.dtype)[:, ::2, :, ::2].copy_(tensor)


def storage(tensor: torch.Tensor) -> np.ndarray:
    """Return the bytes under a tensor, shared with it."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()


def _numbers(product: str, case: Case, tensors) -> list[int]:
    """Return the problem in the words of products.cpp; `tensors`: data, grad, logits, result."""
    n, c, h, w = case.shape
    numbers = [PRODUCTS.index(product), TYPES.index(case.dtype), n, c, case.groups, h, w]
    numbers += [case.kernel_size, case.dilation, case.normalize, case.padding_mode == "renormalize"]
    for tensor in tensors:
        numbers += [tensor.storage_offset() * tensor.element_size(), *tensor.stride()]
    return numbers


def _run(program: Program, product: str, case: Case, data, grad, logits, result, lse, launch, order):
    """Fills `result`, and `lse` in the forward product. Returns the launch that ran."""
    tensors = (data, grad, logits, result)
    numbers = _numbers(product, case, tensors)
    if isinstance(launch, Device):
        numbers += [launch.processors, launch.shared_bytes, launch.tf32]
        limit = launch.shared_bytes
    else:
        numbers += [0, 0, PATHS.index(launch.path), *astuple(launch)[1:]]
        limit = H200.shared_bytes
    buffers = [*map(storage, tensors), storage(lse), np.zeros(7, np.int32)]
    *_, filled, filled_lse, came = program("product", numbers, buffers, order=order, shared_limit=limit)
    if came[0] != 0:
        raise simulated.SimulatorError(f"{product} of {case}: {ERRORS[came[0]]}")
    storage(result)[:], storage(lse)[:] = filled, filled_lse
    return Launch(PATHS[came[1]], *map(int, came[2:]))


def run(program: Program, case: Case, product: str, layout: str, launch, order: str) -> tuple:
    """Return the launch that ran and what it wrote, from a start of NaN: the result, of forward also the log-sum-exp.

    `layout` is that of all tensors, or "A/B": A of input and its gradient, B of the others.
    """
    n, c, h, w = case.shape
    own, _, other = layout.partition("/")
    layouts = (own, other or own, other or own)
    input, logits, grad_out = map(lay_out, case.tensors(), layouts)
    wide = torch.float64 if case.dtype == torch.float64 else torch.float32
    if product == "forward":
        lse = torch.full((n, case.groups, h, w) if case.normalize else (0,), nan, dtype=wide)
    else:
        lse = log_sum_exp(case).to(wide)
    result = torch.full_like(logits if product == "grad_weight" else input, nan)
    data = grad_out if product == "grad_input" else input
    ran = _run(program, product, case, data, grad_out, logits, result, lse, launch, order)
    return (ran, result, lse) if product == "forward" and case.normalize else (ran, result)


class Simulated(torch.autograd.Function):
    """svconv2d of plain windows, and both gradients, through the kernels that `device` is given; all that `ran`."""

    @staticmethod
    def forward(ctx, input, logits, case, program, device, ran):
        wide = torch.float64 if case.dtype == torch.float64 else torch.float32
        n, _, h, w = case.shape
        lse = torch.full((n, case.groups, h, w) if case.normalize else (0,), nan, dtype=wide)
        result = torch.full_like(input, nan, memory_format=torch.contiguous_format)
        ran.append(_run(program, "forward", case, input, input, logits, result, lse, device, "forward"))
        ctx.save_for_backward(input, logits, lse)
        ctx.call = case, program, device, ran
        return result

    @staticmethod
    def backward(ctx, grad_out):
        input, logits, lse = ctx.saved_tensors
        case, program, device, ran = ctx.call
        grads = []
        for product, data, like in (("grad_input", grad_out, input), ("grad_weight", input, logits)):
            result = torch.full_like(like, nan, memory_format=torch.contiguous_format)
            ran.append(_run(program, product, case, data, grad_out, logits, result, lse, device, "forward"))
            grads.append(result)
        return *grads, None, None, None, None


def work(program: Program, case: Case, product: str, layout: str, device: Device, launch: Launch) -> tuple[float, ...]:
    """Return bytes, exponentials and chunks of the launch on the device, as launch.cu counts them; nothing is
    launched."""
    input, logits, grad_out = (lay_out(tensor, layout) for tensor in case.tensors())
    result = logits if product == "grad_weight" else input
    numbers = _numbers(product, case, (input, grad_out, logits, result))
    numbers += [device.processors, device.shared_bytes, PATHS.index(launch.path), *astuple(launch)[1:]]
    *_, counts = program("work", numbers, [np.zeros(1, np.uint8)] * 5 + [np.zeros(3)])
    return tuple(counts.tolist())


@cache
def log_sum_exp(case: Case) -> torch.Tensor:
    """(N, groups, H, W) in float64, over the taps that take part."""
    n, _, h, w = case.shape
    if not case.normalize:
        return torch.zeros(0)
    k, d = case.kernel_size, case.dilation
    logits = case.tensors()[1].double().view(n, case.groups, k, k, h, w)
    if case.padding_mode == "renormalize":
        taps = torch.arange(k) - k // 2
        row = torch.arange(h) - d * taps[:, None]
        column = torch.arange(w) - d * taps[:, None]
        inside = ((row >= 0) & (row < h))[:, None, :, None] & ((column >= 0) & (column < w))[None, :, None, :]
        logits = logits.masked_fill(~inside, -torch.inf)
    return torch.logsumexp(logits, (2, 3))


def check(program: Program, case: Case, product: str, layout: str, launch, orders=tuple(simulated.ORDERS)) -> Launch:
    """Check that the product gives the reference's answer, and the same bits in every order of the threads."""
    (ran, *first), *others = (run(program, case, product, layout, launch, order) for order in orders)
    index = PRODUCTS.index(product)
    assert_close(case, NAMES[index], first[0], expected(case)[index], ran.path)
    if len(first) > 1:
        want = log_sum_exp(case)
        torch.testing.assert_close(first[1].double(), want, rtol=0, atol=32 * torch.finfo(first[1].dtype).eps)
    for _, *other in others:
        for one, two in zip(first, other, strict=True):
            assert (storage(one) == storage(two)).all(), f"{product} of {case}: the order of threads shows"
    return ran
