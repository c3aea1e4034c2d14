"""The result written to a given tensor."""

import re

import numpy as np
import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, Case

from svconv import _C, ops, svconv2d

CASE = Case((2, 6, 7, 11), groups=2, kernel_size=5, padding_mode="renormalize")
RAW = (5, 1, 2, True, True)


def strided(like: torch.Tensor) -> torch.Tensor:
    """Every second column of a wider tensor, beyond an offset."""
    n, c, h, w = like.shape
    return like.new_empty(n, c + 1, h, 2 * w)[:, 1:, :, ::2]


RESULTS = {
    "nchw": torch.empty_like,
    "channels_last": lambda like: torch.empty_like(like, memory_format=torch.channels_last),
    "strided": strided,
}


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out_holds_the_result_bit_for_bit(dtype, layout, result, device):
    case = Case(**{**vars(CASE), "dtype": dtype})
    input, logits, _ = (t.contiguous(memory_format=LAYOUTS[layout]) for t in case.tensors(device))
    out = RESULTS[result](torch.empty_like(input, memory_format=torch.contiguous_format))
    strides = out.stride()
    assert svconv2d(input, logits, **case.options, out=out) is out
    assert out.stride() == strides
    assert torch.equal(out, svconv2d(input, logits, **case.options))


def test_memory_around_out_is_left_alone(device):
    input, logits, _ = CASE.tensors(device)
    n, c, h, w = input.shape
    around = torch.full((n, c, h + 2, w + 3), 7.0, device=device)
    svconv2d(input, logits, **CASE.options, out=around[:, :, 1:-1, 1:-2])
    around[:, :, 1:-1, 1:-2] = 7.0
    assert torch.equal(around, torch.full_like(around, 7.0))


def test_backends_without_kernels_write_out_too():
    input, logits, _ = CASE.tensors()
    out = torch.empty_like(input)
    assert svconv2d(input, logits, **CASE.options, out=out, backend="reference") is out
    assert torch.equal(out, svconv2d(input, logits, **CASE.options, backend="reference"))


def test_opcheck(device):
    input, logits, _ = CASE.tensors(device)
    checks = torch.library.opcheck(torch.ops.svconv.forward_into.default, (input, logits, strided(input), *RAW))
    assert len(checks) == 4 and set(checks.values()) == {"SUCCESS"}


def test_compiles_to_one_graph(device):
    input, logits, _ = CASE.tensors(device)
    out, doubled = torch.empty_like(input), torch.empty_like(input)

    @torch.compile(fullgraph=True)
    def step(input, logits, out):
        svconv2d(input, logits, **CASE.options, out=out)
        return out * 2

    with torch.inference_mode():
        doubled = step(input, logits, out)
    assert torch.equal(out, svconv2d(input, logits, **CASE.options))
    assert torch.equal(doubled, 2 * out)


def test_a_gradient_that_needs_what_out_overwrote_is_refused(device):
    input, logits, _ = CASE.tensors(device)
    out = torch.ones_like(input)
    loss = (torch.ones_like(input, requires_grad=True) * out).sum()
    svconv2d(input, logits, **CASE.options, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_out_may_be_an_inference_tensor(device):
    input, logits, _ = CASE.tensors(device)
    with torch.inference_mode():
        out = torch.empty_like(input)
        svconv2d(input, logits, **CASE.options, out=out)
    assert torch.equal(out, svconv2d(input, logits, **CASE.options))


def test_raw_entry_writes_out(device):
    input, logits, _ = CASE.tensors(device)
    out = torch.empty_like(input)
    assert ops.forward(input, logits, *RAW, out=out) is out
    assert torch.equal(out, ops.forward(input, logits, *RAW))


def test_empty(device):
    input, logits = torch.zeros(0, 6, 7, 11, device=device), torch.zeros(0, 50, 7, 11, device=device)
    assert svconv2d(input, logits, **CASE.options, out=torch.empty_like(input)).shape == input.shape


INPUT, LOGITS, _ = CASE.tensors()
BAD = {
    "not a tensor": (3, TypeError, "expected out to be a torch.Tensor, got int"),
    "shape": (torch.empty(2, 6, 11, 7), ValueError, "(2, 6, 7, 11)"),
    "dtype": (torch.empty(2, 6, 7, 11).double(), ValueError, "torch.float64"),
    "device": (torch.empty(2, 6, 7, 11, device="meta"), ValueError, "device(type='meta')"),
    "one element for many": (torch.empty(2, 1, 7, 11).expand(2, 6, 7, 11), ValueError, "don't expand it"),
    "rows that overlap": (torch.empty(1000).as_strided((2, 6, 7, 11), (420, 70, 10, 1)), ValueError, "(420, 70, 10"),
    "input itself": (INPUT, ValueError, "memory of its own"),
    "input as a parameter": (torch.nn.Parameter(INPUT, requires_grad=False), ValueError, "memory of its own"),
    "a part of logits": (LOGITS[:, 44:], ValueError, "memory of its own"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_out(case):
    out, error, message = BAD[case]
    with pytest.raises(error, match="^svconv2d: .*" + re.escape(message)):
        svconv2d(INPUT, LOGITS, **CASE.options, out=out)


def shared_tensors(device):
    """input, logits and an out that shares memory, by what is shared."""
    input, logits, _ = CASE.tensors(device)
    n, c, h, w = input.shape
    both = torch.zeros(n, c, h + 1, w, device=device)
    of_logits = logits.new_empty(n, logits.shape[1] + 3, h, w)
    return {
        "input itself": (input, logits, input),
        "all rows but one": (both[:, :, 1:], logits, both[:, :, :-1]),
        "a part of logits": (input, of_logits[:, 3:], of_logits[:, :c]),
        "one element for many": (input, logits, input.new_empty(n, 1, h, w).expand(n, c, h, w)),
    }


@pytest.mark.parametrize("shared", shared_tensors("cpu"))
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled_programs_refuse_shared_memory_in_every_run(backend, shared, device):
    """Addresses are unknown while a program is traced: it is traced with memory of its own."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda *tensors: svconv2d(*tensors[:2], **CASE.options, out=tensors[2]), backend=backend)
    input, logits, _ = CASE.tensors(device)
    with torch.no_grad():
        compiled(input, logits, torch.empty_like(input))
        with pytest.raises((RuntimeError, ValueError), match="expected out with memory"):
            compiled(*shared_tensors(device)[shared])


@pytest.mark.parametrize("shared", shared_tensors("cpu"))
def test_raw_entries_refuse_shared_memory(shared, device):
    input, logits, out = shared_tensors(device)[shared]
    with pytest.raises(RuntimeError, match="svconv::forward_into: expected out with memory"):
        torch.ops.svconv.forward_into(input, logits, out, *RAW)
    with pytest.raises(ValueError, match="^svconv.ops.forward: expected out with memory .*; "):
        ops.forward(input, logits, *RAW, out=out)


def test_neighbours_in_one_buffer_are_not_the_same_memory():
    both = torch.zeros(2, *INPUT.shape)
    both[0] = INPUT
    svconv2d(both[0], LOGITS, **CASE.options, out=both[1])
    assert torch.equal(both[1], svconv2d(INPUT, LOGITS, **CASE.options))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_of_one_buffer_are_not_the_same_memory(layout, device):
    input, logits, _ = CASE.tensors(device)
    c, taps = input.shape[1], logits.shape[1]
    buffer = torch.cat([input, logits, torch.full_like(input, torch.nan)], 1)
    buffer = buffer.contiguous(memory_format=LAYOUTS[layout])
    out = buffer[:, c + taps :]
    svconv2d(buffer[:, :c], buffer[:, c : c + taps], **CASE.options, out=out)
    torch.testing.assert_close(out, svconv2d(input, logits, **CASE.options))


def test_shared_memory_is_what_numpy_finds():
    random = np.random.default_rng(0)
    buffer = np.zeros(200, np.float32)

    def array():
        sizes = random.integers(1, 5, 4)
        strides = random.permutation([1, 2, *random.integers(0, 30, 2)])
        reach = int((sizes - 1) @ strides)
        start = random.integers(0, max(len(buffer) - reach, 1))
        return np.lib.stride_tricks.as_strided(buffer[start:], sizes, 4 * strides)

    def memory(array):
        return _C.Memory(array.ctypes.data, 4, array.shape, [stride // 4 for stride in array.strides])

    answers = set()
    for _ in range(2000):
        a, b = array(), array()
        answers.add(want := np.shares_memory(a, b))
        assert memory(a).meets(memory(b)) == want, (a.shape, a.strides, b.shape, b.strides)
    assert answers == {False, True}


@pytest.mark.parametrize("which", ["input", "logits", "out"])
def test_out_is_for_inference(which):
    tensors = {"input": INPUT.clone(), "logits": LOGITS.clone(), "out": torch.empty_like(INPUT)}
    tensors[which].requires_grad_()
    with pytest.raises(RuntimeError, match="^svconv2d: expected no gradient to be recorded where out is given"):
        svconv2d(**tensors, **CASE.options)
    with torch.no_grad():
        svconv2d(**tensors, **CASE.options)


@pytest.mark.parametrize("backend", [None, "reference"])
def test_out_is_left_alone_by_autocast(backend):
    out, under_autocast = torch.empty_like(INPUT), torch.empty_like(INPUT)
    svconv2d(INPUT, LOGITS, **CASE.options, out=out, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        svconv2d(INPUT, LOGITS, **CASE.options, out=under_autocast, backend=backend)
    assert torch.equal(out, under_autocast)


def test_logits_of_another_dtype_are_refused_under_autocast():
    with torch.autocast("cpu"), pytest.raises(TypeError, match="of one dtype"):
        svconv2d(INPUT, LOGITS.bfloat16(), **CASE.options, out=torch.empty_like(INPUT))
