"""Bad arguments: the error names the function, what was expected, what came."""

import re

import numpy as np
import pytest
import torch

import svconv.numpy
from svconv import _C, SVConv2d, correlation2d, explain, ops, reference, svconv2d, warmup


def tensors(channels=4, taps=9, **kwargs):
    return torch.zeros(1, channels, 5, 6, **kwargs), torch.zeros(1, taps, 5, 6, **kwargs)


CASES = {
    "even kernel": (tensors(), dict(kernel_size=4), ValueError, "odd kernel_size, got 4"),
    "zero kernel": (tensors(), dict(kernel_size=0), ValueError, "kernel_size to be at least 1, got 0"),
    "float kernel": (tensors(), dict(kernel_size=3.0), TypeError, "kernel_size to be an int, got 3.0"),
    "zero dilation": (tensors(), dict(dilation=0), ValueError, "dilation to be at least 1, got 0"),
    "zero groups": (tensors(), dict(groups=0), ValueError, "groups to be at least 1, got 0"),
    "indivisible": (tensors(taps=27), dict(groups=3), ValueError, "got 4 channels and groups=3"),
    "true kernel": (tensors(taps=1), dict(kernel_size=True), TypeError, "kernel_size to be an int, got True (bool)"),
    "half dilation": (tensors(), dict(dilation=1.5), TypeError, "dilation to be an int, got 1.5"),
    "groups in words": (tensors(), dict(groups="1"), TypeError, "groups to be an int, got '1' (str)"),
    "word for normalize": (tensors(), dict(normalize="False"), TypeError, "normalize to be a bool, got 'False' (str)"),
    "number for normalize": (tensors(), dict(normalize=0), TypeError, "normalize to be a bool, got 0 (int)"),
    "none for normalize": (tensors(), dict(normalize=None), TypeError, "normalize to be a bool, got None"),
    "number for padding": (tensors(), dict(padding_mode=0), TypeError, "padding_mode to be a str"),
    "array for padding": (tensors(), dict(padding_mode=np.zeros(2)), TypeError, "padding_mode to be a str"),
    "number for backend": (tensors(), dict(backend=1), TypeError, "backend to be None or a str"),
    "list for backend": (tensors(), dict(backend=["cpu"]), TypeError, "backend to be None or a str"),
    "padding": (tensors(), dict(padding_mode="mirror"), ValueError, "got 'mirror'"),
    "order of taps": (tensors(), dict(taps="reversed"), ValueError, "one of ('convolution', 'correlation')"),
    "number for taps": (tensors(), dict(taps=1), TypeError, "taps to be a str"),
    "zero scale": (tensors(), dict(scale=0), ValueError, "scale to be at least 1, got 0"),
    "float scale": (tensors(), dict(scale=2.0), TypeError, "scale to be an int, got 2.0"),
    "coarse logits for a scale": (tensors(), dict(scale=2), ValueError, "(1, 9, 10, 12) for input of shape"),
    "fine logits for no scale": (
        (torch.zeros(1, 4, 5, 6), torch.zeros(1, 9, 10, 12)),
        {},
        ValueError,
        "H, W) = (1, 9, 5, 6) for input of shape (1, 4, 5, 6), got (1, 9, 10, 12)",
    ),
    "mirror as large as the frame": (
        tensors(taps=121),
        dict(kernel_size=11, padding_mode="reflect"),
        ValueError,
        "input of at least 6 rows and columns",
    ),
    "window larger than the frame": (
        tensors(),
        dict(dilation=2, padding_mode="shift"),
        ValueError,
        "input of at least 6 rows and columns",
    ),
    "no pixel to repeat": (
        (torch.zeros(1, 4, 0, 6), torch.zeros(1, 9, 0, 6)),
        dict(padding_mode="replicate"),
        ValueError,
        "input of at least 1 rows and columns",
    ),
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
    "sparse": (
        (torch.zeros(1, 4, 5, 6).to_sparse(), torch.zeros(1, 9, 5, 6)),
        {},
        TypeError,
        "input with memory for every element, got torch.sparse_coo; make it dense with input.to_dense()",
    ),
    "more than the kernels count": (tensors(), dict(dilation=2**63), ValueError, "at most 9223372036854775807"),
    "backend": (tensors(), dict(backend="opencl"), ValueError, "got 'opencl'"),
    "backend off its device": (tensors(device="meta"), dict(backend="cpu"), ValueError, "it runs on CPU tensors"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_arguments(case):
    tensors, options, error, message = CASES[case]
    with pytest.raises(error, match="^svconv2d: .*" + re.escape(message)):
        svconv2d(*tensors, **{"kernel_size": 3, **options})


X, L = tensors()
ARRAYS = X.numpy(), L.numpy()
WRONG = {"kernel_size": ("3", 3.0, None, True), "dilation": (1.0, [1]), "groups": ("1", 2.5)}
WRONG_WINDOW = {
    "padding_mode": (0, None, b"zeros"),
    "taps": (0, None),
    "tap_major": (0, None, "taps"),
    "scale": ("2", 2.0, None, True),
}
WRONG_FLAG = {"normalize": ("False", 0, None, 1.0)}
WRONG_SVCONV = {**WRONG, **WRONG_FLAG, **WRONG_WINDOW}
WRONG_BACKEND = {"backend": (0, True, ["cpu"], np.array(["cpu"]), np.zeros(3), torch.zeros(3))}
# Every public function: how it is called in order, and what it takes for none of its arguments.
PUBLIC = {
    "svconv2d": (lambda **o: svconv2d(X, L, **o), {**WRONG_SVCONV, **WRONG_BACKEND, "out": (0, ARRAYS[0])}),
    "correlation2d": (lambda **o: correlation2d(X, X, **o), {**WRONG, **WRONG_WINDOW, **WRONG_BACKEND}),
    "svconv.numpy.svconv2d": (
        lambda **o: svconv.numpy.svconv2d(*ARRAYS, **o),
        {**WRONG, **WRONG_FLAG, "padding_mode": (0, None, b"zeros"), "threads": ("2", 1.0)},
    ),
    "svconv.reference.svconv2d": (lambda **o: reference.svconv2d(X, L, **o), WRONG_SVCONV),
    "svconv.reference.correlation2d": (
        lambda **o: reference.correlation2d(X, X, **o),
        {**WRONG, **WRONG_WINDOW},
    ),
    "svconv.ops.forward": (
        lambda **o: ops.forward(X, L, **o),
        {
            **WRONG,
            "normalize": ("False", 0, None),
            "renormalize": ("zeros", 1),
            "window": (3, (3, 3, 1), (0, False), ("zeros", False, 1), [0, True, 1], (0, True, True)),
            "out": ("3", ARRAYS[0]),
        },
    ),
    "explain": (lambda **o: explain(X, L, **o), {**WRONG_SVCONV, **WRONG_BACKEND}),
    "SVConv2d": (SVConv2d, {**WRONG_SVCONV, **WRONG_BACKEND}),
    "warmup": (
        lambda shape=(1, 4, 5, 6), **o: warmup(shape, **{"device": "cpu", **o}),
        {
            **WRONG,
            "shape": (3, (4, 5, 6), (1, 4, 5, 6.0), "1456"),
            "dtype": ("float32", torch.int32, np.zeros(2)),
            "device": (0, None),
            "gradients": ("no", 0),
            "scale": ("2", 2.0),
            "padding_mode": (0, None),
            "backend": (0, np.zeros(3)),
            "out": (X,),
        },
    ),
}
CALLS = [
    (name, argument, value) for name, (_, wrong) in PUBLIC.items() for argument in wrong for value in wrong[argument]
]


@pytest.mark.parametrize(("function", "argument", "value"), CALLS, ids=lambda value: repr(value)[:20])
def test_every_argument_of_every_public_function_is_checked(function, argument, value):
    call, _ = PUBLIC[function]
    call(**({} if function == "warmup" else {"kernel_size": 3}))
    with pytest.raises(TypeError, match=f"^{re.escape(function)}: expected "):
        call(**{"kernel_size": 3, argument: value})


TENSORS = {
    "svconv2d": svconv2d,
    "correlation2d": correlation2d,
    "explain": explain,
    "svconv.reference.svconv2d": reference.svconv2d,
    "svconv.ops.forward": ops.forward,
}


@pytest.mark.parametrize("function", TENSORS)
def test_every_tensor_is_checked(function):
    for tensors in ((ARRAYS[0], L), (X, None), (X, "logits")):
        with pytest.raises(TypeError, match=f"^{re.escape(function)}: expected .* to be a torch.Tensor.*; make one"):
            TENSORS[function](*tensors, kernel_size=3)


def test_the_operator_by_itself_names_what_does_not_fit():
    meta = X.to("meta")
    for given, options, words in (
        ((X, L), {"kernel_size": 2}, "an odd kernel_size, got 2; use 1 or 3"),
        ((X, L[:, :8]), {}, "logits of shape .* = .1, 9, 5, 6.*; predict 9 channels"),
        ((X, L.half()), {}, "input and logits of one dtype.*; convert one"),
        ((X[0], L), {}, "input of 4 dimensions .*; add the batch"),
        ((meta, L), {}, "input and logits on one device.*; move one"),
        ((X, L), {"out": meta}, "out of shape, dtype and device .*; make it with"),
        ((X, L), {"out": X}, "out with memory of its own.*; make it with"),
        ((X, L), {"groups": 3}, "the channels of input to be divisible by groups.*; take a divisor of 4"),
        ((X, L), {"window": (4, False, 1)}, "window to be a tuple that raw_window makes"),
        ((X, L), {"window": ops.raw_window("reflect", "correlation", 2)}, "logits of shape .*scale"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^svconv.ops.forward: expected {words}"):
            ops.forward(*given, **{"kernel_size": 3, **options})


def test_a_long_value_is_told_by_its_type():
    for wrong in (torch.zeros(9, 9), np.zeros((9, 9)), "3" * 100, list(range(100))):
        with pytest.raises(
            TypeError, match=f"^svconv2d: expected dilation to be an int, got a value of type {type(wrong).__name__};"
        ):
            svconv2d(X, L, kernel_size=3, dilation=wrong)


def test_an_empty_frame_has_no_pixel_to_repeat():
    with pytest.raises(ValueError, match="a pixel to repeat.*; leave empty frames out"):
        svconv2d(X[:, :, :0], L[:, :, :0], kernel_size=3, padding_mode="replicate")


INTEGERS = (np.int8, np.uint8, np.int16, np.int64, np.uint64)


@pytest.mark.parametrize("kind", INTEGERS)
def test_numbers_of_numpy_are_numbers(kind):
    """The 17 * 17 taps of the widest are more than 8 bits hold."""
    input, logits = torch.randn(1, 2, 5, 6), torch.randn(1, 2 * 289, 5, 6)
    plain = {"kernel_size": 17, "dilation": 1, "groups": 2}
    same = {name: kind(value) for name, value in plain.items()}
    flags = {"normalize": np.bool_(False)}
    want = svconv2d(input, logits, **plain, normalize=False)
    assert torch.equal(svconv2d(input, logits, **same, **flags), want)
    assert torch.equal(
        reference.svconv2d(input, logits, **same, **flags), reference.svconv2d(input, logits, **plain, normalize=False)
    )
    assert torch.equal(SVConv2d(**same, **flags)(input, logits), want)
    assert torch.equal(ops.forward(input, logits, *same.values(), np.bool_(False)), want)
    assert torch.equal(correlation2d(input, input, **same), correlation2d(input, input, **plain))
    arrays = svconv.numpy.svconv2d(input.numpy(), logits.numpy(), **same, **flags, threads=kind(1))
    assert torch.equal(torch.from_numpy(arrays), want)
    assert explain(input, logits, **same).chosen == "cpu"
    warmup(tuple(map(kind, input.shape)), device="cpu", **same)
    assert {type(getattr(SVConv2d(**same), name)) for name in same} == {int}


def test_the_module_takes_its_options_by_name():
    """A module of torch's would take channels here."""
    with pytest.raises(TypeError, match="positional"):
        SVConv2d(9, 1, 1, "renormalize")
    with pytest.raises(ValueError, match="^SVConv2d: expected backend to be None or one of .*'opencl'"):
        SVConv2d(3, backend="opencl")


@pytest.mark.parametrize("types", [(torch.float64, torch.float32), (torch.bfloat16, torch.float64)], ids=str)
def test_autocast_leaves_float64_and_what_does_not_match_it_is_refused(types):
    with torch.autocast("cpu"), pytest.raises(TypeError, match="^svconv2d: expected input and logits of one dtype"):
        svconv2d(*(t.to(dtype) for t, dtype in zip(tensors(), types, strict=True)), kernel_size=3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("device", "gpu"),
        ("device", ""),
        ("device", "cuda:99"),
        ("memory_format", np.zeros(2)),
        ("memory_format", None),
        ("backend", "opencl"),
        ("padding_mode", "mirror"),
    ],
)
def test_warmup_names_what_torch_does_not_know(argument, value):
    with pytest.raises(ValueError, match=f"^warmup: expected {argument} to be .*; "):
        warmup((1, 4, 5, 6), **{"device": "cpu", "kernel_size": 3, argument: value})


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
