"""Bad arguments: the error names the function, what was expected, what came."""

import re

import pytest
import torch

from svconv import _C, SVConv2d, svconv2d


def tensors(channels=4, taps=9, **kwargs):
    return torch.zeros(1, channels, 5, 6, **kwargs), torch.zeros(1, taps, 5, 6, **kwargs)


CASES = {
    "even kernel": (tensors(), dict(kernel_size=4), ValueError, "odd kernel_size, got 4"),
    "zero kernel": (tensors(), dict(kernel_size=0), ValueError, "kernel_size to be at least 1, got 0"),
    "float kernel": (tensors(), dict(kernel_size=3.0), TypeError, "kernel_size to be an int, got 3.0"),
    "zero dilation": (tensors(), dict(dilation=0), ValueError, "dilation to be at least 1, got 0"),
    "zero groups": (tensors(), dict(groups=0), ValueError, "groups to be at least 1, got 0"),
    "indivisible": (tensors(taps=27), dict(groups=3), ValueError, "got 4 channels and groups=3"),
    "padding": (tensors(), dict(padding_mode="reflect"), ValueError, "got 'reflect'"),
    "few logits": (tensors(taps=8), {}, ValueError, "(1, 9, 5, 6)"),
    "logits of another size": (
        (torch.zeros(1, 4, 5, 6), torch.zeros(1, 9, 6, 5)),
        {},
        ValueError,
        "got (1, 9, 6, 5)",
    ),
    "no batch": ((torch.zeros(4, 5, 6), torch.zeros(9, 5, 6)), {}, ValueError, "unsqueeze(0)"),
    "integers": (tensors(dtype=torch.int32), {}, TypeError, "got torch.int32"),
    "complex": (tensors(dtype=torch.complex64), {}, TypeError, "got torch.complex64"),
    "types differ": (
        (torch.zeros(1, 4, 5, 6), torch.zeros(1, 9, 5, 6).half()),
        {},
        TypeError,
        "logits.dtype=torch.float16",
    ),
    "devices differ": (
        (torch.zeros(1, 4, 5, 6), torch.zeros(1, 9, 5, 6, device="meta")),
        {},
        ValueError,
        "one device",
    ),
    "not a tensor": (([[1.0]], torch.zeros(1, 9, 5, 6)), {}, TypeError, "input to be a torch.Tensor, got list"),
    "backend": (tensors(), dict(backend="opencl"), ValueError, "got 'opencl'"),
    "backend off its device": (tensors(device="meta"), dict(backend="cpu"), ValueError, "it runs on CPU tensors"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments(case):
    tensors, options, error, message = CASES[case]
    with pytest.raises(error, match="^svconv2d: .*" + re.escape(message)):
        svconv2d(*tensors, **{"kernel_size": 3, **options})


@pytest.mark.parametrize("types", [(torch.float64, torch.float32), (torch.bfloat16, torch.float64)], ids=str)
def test_autocast_leaves_float64_and_what_does_not_match_it_is_refused(types):
    with torch.autocast("cpu"), pytest.raises(TypeError, match="^svconv2d: expected input and logits of one dtype"):
        svconv2d(*(t.to(dtype) for t, dtype in zip(tensors(), types, strict=True)), kernel_size=3)


def test_module_checks_its_options_at_construction():
    with pytest.raises(ValueError, match="odd kernel_size, got 4"):
        SVConv2d(kernel_size=4)


def test_raw_operators_refuse_what_they_cannot_compute():
    input, logits = tensors()
    raw = torch.ops.svconv.forward
    with pytest.raises(RuntimeError, match="expected logits of shape"):
        raw(input, logits[:, :8], 3, 1, 1, True, False)
    with pytest.raises(RuntimeError, match="type and device"):
        raw(input, logits.half(), 3, 1, 1, True, False)
    with pytest.raises(RuntimeError, match="odd kernel_size"):
        raw(input, logits, 2, 1, 1, True, False)
    with pytest.raises(RuntimeError, match="divisible"):
        raw(input, logits, 3, 1, 3, True, False)


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="got 'sse9'"):
        _C.force_instruction_set("sse9")
