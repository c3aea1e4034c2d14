"""The NumPy entry point: the torch operator's numbers and errors, on any array, without torch."""

import subprocess
import sys
import threading
import time
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch
from svconv_cases import DTYPES, LAYOUTS, Case, assert_close, expected

import svconv
from svconv.numpy import svconv2d

CASES = [Case(kernel_size=k) for k in (1, 3, 9)] + [
    Case(shape=(2, 12, 10, 17), kernel_size=3, dilation=d, groups=g, normalize=norm, padding_mode=padding)
    for d, g in ((1, 1), (2, 3))
    for norm, padding in ((True, "zeros"), (True, "renormalize"), (False, "zeros"))
]


def to_numpy(tensor):
    """The same memory as an array of the same type, strides and all."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_torch(array):
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_the_references_and_bit_for_bit_the_torch_operators(case, dtype, layout):
    case = replace(case, dtype=dtype)
    input, logits = (t.contiguous(memory_format=LAYOUTS[layout]) for t in case.tensors()[:2])
    out = svconv2d(to_numpy(input), to_numpy(logits), **case.array_options)
    assert_close(case, "out", to_torch(out), expected(case)[0])
    want = svconv.svconv2d(input, logits, **case.options)
    assert torch.equal(to_torch(out), want)
    assert to_torch(out).stride() == want.stride()


def test_every_instruction_set(instruction_set):
    case = Case(shape=(1, 35, 18, 29), padding_mode="renormalize")
    input, logits = case.tensors()[:2]
    out = svconv2d(input.numpy(), logits.numpy(), **case.array_options)
    assert torch.equal(torch.from_numpy(out), svconv.svconv2d(input, logits, **case.options))


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    records = np.zeros(array.shape, np.dtype([("flag", "u1"), ("value", array.dtype)]))
    records["value"] = array
    return records["value"]


VIEWS = {
    "Fortran order": np.asfortranarray,
    "upside down": lambda a: a[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
    "channels backwards": lambda a: a[:, ::-1].copy()[:, ::-1],
    "every other column": lambda a: a.repeat(2, axis=3)[..., ::2],
    "read-only": read_only,
    "unaligned": unaligned,
    "subclass": lambda a: a.view(np.recarray),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", (np.float32, np.float16))
def test_arrays_of_any_strides(view, dtype):
    input, logits = (t.numpy().astype(dtype) for t in Case().tensors()[:2])
    out = svconv2d(VIEWS[view](input), VIEWS[view](logits))
    assert type(out) is np.ndarray and out.dtype == dtype
    assert np.array_equal(out, svconv2d(input, logits))


def test_broadcast_arrays():
    rng = np.random.default_rng(0)
    input, logits = rng.standard_normal((1, 1, 5, 6)), rng.standard_normal((9, 1, 1))
    out = svconv2d(np.broadcast_to(input, (2, 3, 5, 6)), np.broadcast_to(logits, (2, 9, 5, 6)), kernel_size=3)
    want = svconv2d(np.tile(input, (2, 3, 1, 1)), np.tile(logits, (2, 1, 5, 6)), kernel_size=3)
    assert np.array_equal(out, want)


@pytest.mark.parametrize(
    ("order", "axes"), [("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1)), ("WHCN", (3, 2, 1, 0)), ("HNWC", (2, 0, 3, 1))]
)
def test_result_is_dense_in_the_order_of_the_input(order, axes):
    input = np.zeros((2, 3, 4, 5), np.float32).transpose(axes).copy().transpose(np.argsort(axes))
    out = svconv2d(input, np.zeros((2, 9, 4, 5), np.float32), kernel_size=3)
    assert out.strides == input.strides


@pytest.mark.parametrize("shape", [(0, 4, 5, 6), (2, 0, 5, 6), (2, 4, 0, 6)])
def test_empty_arrays(shape):
    n, _, h, w = shape
    assert svconv2d(np.ones(shape), np.ones((n, 9, h, w)), kernel_size=3).shape == shape


def test_results_repeat_bit_for_bit_whatever_the_number_of_threads():
    input, logits = (t.numpy() for t in Case(shape=(2, 40, 35, 70)).tensors()[:2])
    want = svconv2d(input, logits, threads=1)
    for threads in (None, 2, 3, 1000, np.int64(2)):
        assert np.array_equal(svconv2d(input, logits, threads=threads), want)


def test_numpy_integers_are_integers():
    input, logits = np.ones((1, 4, 5, 6)), np.zeros((1, 9, 5, 6))
    assert svconv2d(input, logits, kernel_size=np.int32(3), groups=np.uint8(1)).shape == input.shape


def test_python_runs_on_while_a_call_computes():
    input, logits = (t.numpy() for t in Case(shape=(1, 64, 64, 64)).tensors()[:2])

    svconv2d(input, logits, threads=1)  # the first call imports what it needs, which gives up Python's lock
    entered, left = threading.Event(), threading.Event()

    def call():
        entered.set()
        svconv2d(input, logits, threads=1)
        left.set()

    def runs_during_a_call():
        entered.clear(), left.clear()
        thread = threading.Thread(target=call)
        thread.start()
        seen = False
        while not left.is_set():
            seen = seen or entered.is_set()
            time.sleep(0)  # gives up the lock
        thread.join()
        return seen

    switch_interval = sys.getswitchinterval()
    # Nobody is asked to give up Python's lock: this thread runs on only if the call releases it.
    sys.setswitchinterval(1000)
    try:
        assert any(runs_during_a_call() for _ in range(50))
    finally:
        sys.setswitchinterval(switch_interval)


@pytest.mark.parametrize("threads", (1, 3))
def test_no_memory_in_a_thread_is_a_memory_error(threads):
    """The taps of one pixel alone are more than an address space."""
    kernel_size = 2**24 + 1
    input = np.ones((4, 1, 1, 1), np.float32)
    logits = np.broadcast_to(np.float32(0), (4, kernel_size**2, 1, 1))
    with pytest.raises(MemoryError):
        svconv2d(input, logits, kernel_size=kernel_size, threads=threads)


def arrays(channels=4, taps=9, dtype="float32"):
    return np.zeros((1, channels, 5, 6), dtype), np.zeros((1, taps, 5, 6), dtype)


def both(*arrays):
    return arrays, tuple(torch.from_numpy(a) for a in arrays)


SHARED = {
    "even kernel": (both(*arrays()), dict(kernel_size=4)),
    "zero kernel": (both(*arrays()), dict(kernel_size=0)),
    "float kernel": (both(*arrays()), dict(kernel_size=3.0)),
    "true dilation": (both(*arrays()), dict(dilation=True)),
    "zero groups": (both(*arrays()), dict(groups=0)),
    "indivisible": (both(*arrays(taps=27)), dict(groups=3)),
    "few logits": (both(*arrays(taps=8)), {}),
    "two dimensions": (both(np.zeros((5, 6)), np.zeros((5, 6))), {}),
}


@pytest.mark.parametrize("name", SHARED)
def test_errors_are_the_torch_operators_under_this_functions_name(name):
    (of_numpy, of_torch), options = SHARED[name]
    with pytest.raises((TypeError, ValueError)) as want:
        svconv.svconv2d(*of_torch, **{"kernel_size": 3, **options})
    with pytest.raises(want.type) as got:
        svconv2d(*of_numpy, **{"kernel_size": 3, **options})
    assert str(got.value) == "svconv.numpy." + str(want.value)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([[1.0]], arrays()[1]), {}, TypeError, "input to be a numpy.ndarray, got list"),
        (arrays(), {"padding_mode": "reflect"}, ValueError, "one of ('zeros', 'renormalize'), got 'reflect'"),
        ((torch.zeros(1, 4, 5, 6), arrays()[1]), {}, TypeError, "input to be a numpy.ndarray, got Tensor"),
        ((np.zeros((4, 5, 6)), np.zeros((9, 5, 6))), {}, ValueError, "add the batch with input[None]"),
        (arrays(dtype="int32"), {}, TypeError, 'got int32; convert it, for example with input.astype("float32")'),
        (arrays(dtype=">f4"), {}, TypeError, "got >f4"),
        (arrays(dtype="longdouble"), {}, TypeError, "dtype float32, float64, float16 or bfloat16"),
        ((arrays()[0], arrays(dtype="float16")[1]), {}, TypeError, "logits.dtype=dtype('float16')"),
        (arrays(), dict(threads=0), ValueError, "threads to be at least 1, got 0"),
        (arrays(), dict(threads=1.5), TypeError, "threads to be an int, got 1.5"),
    ],
)
def test_errors_of_arrays(arguments, options, error, message):
    with pytest.raises(error) as raised:
        svconv2d(*arguments, **{"kernel_size": 3, **options})
    assert str(raised.value).startswith("svconv.numpy.svconv2d: expected ") and message in str(raised.value)


def test_runs_where_torch_cannot_be_imported():
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
import svconv
out = svconv.numpy.svconv2d(np.ones((1, 3, 8, 10), "float32"), np.zeros((1, 81, 8, 10), "float32"))
assert abs(out[0, 0, 4, 4] - 8 * 9 / 81) < 1e-6, out
try:
    svconv.numpy.svconv2d(np.ones((1, 3, 8, 10), "float32"), np.zeros((1, 80, 8, 10), "float32"))
except ValueError as error:
    assert "(1, 81, 8, 10)" in str(error)
assert svconv.build_info() and svconv.__version__
try:
    svconv.svconv2d
except ImportError as error:
    assert "torch" in str(error)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
