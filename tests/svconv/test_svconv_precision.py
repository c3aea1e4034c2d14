"""torch's setting for float32 products, as the CUDA kernels hear of it. What they compute: test_svconv_cuda.py."""

import ctypes
from pathlib import Path

import pytest
import torch

import svconv
from svconv.precision import asks_for_tf32

MATMUL = torch.backends.cuda.matmul
BUILT = svconv.build_info()["cuda"]


@pytest.fixture(autouse=True)
def _restored():
    yield
    torch.set_float32_matmul_precision("highest")
    MATMUL.fp32_precision = "none"


def by_name(name, value):
    setattr(MATMUL, name, value)


# Each of torch's ways to set it, in the order of their age.
WAYS = (
    (lambda: None, False),
    (lambda: by_name("allow_tf32", True), True),
    (lambda: by_name("allow_tf32", False), False),
    (lambda: torch.set_float32_matmul_precision("high"), True),
    (lambda: torch.set_float32_matmul_precision("medium"), True),
    (lambda: torch.set_float32_matmul_precision("highest"), False),
    (lambda: by_name("fp32_precision", "tf32"), True),
    (lambda: by_name("fp32_precision", "ieee"), False),
)


def test_every_way_to_set_it_is_heard():
    for set_it, want in WAYS:
        set_it()
        assert asks_for_tf32() == want


@pytest.mark.skipif(BUILT.startswith("none"), reason=f"no CUDA kernels: {BUILT}")
def test_the_library_asks_at_every_call():
    library = ctypes.CDLL(str(Path(svconv.__file__).with_name("svconv_ops.so")))
    for set_it, want in WAYS:
        set_it()
        assert library.svconv_asks_for_tf32() == want


def test_the_setting_does_not_touch_other_devices():
    input, logits = torch.randn(1, 8, 12, 15), torch.randn(1, 81, 12, 15)
    exact = svconv.svconv2d(input, logits)
    MATMUL.fp32_precision = "tf32"
    assert torch.equal(svconv.svconv2d(input, logits), exact)
