"""How many threads a product takes on the CPU: a small one stays on the caller's, and none changes a bit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from svconv_cases import Case

import svconv.numpy
from svconv import _C

# On either side of where a second thread begins: 2 * 2**20 units of kernel_size**2 * (channels + 64) a pixel.
SMALL, LARGE = Case((1, 64, 12, 16)), Case((1, 64, 12, 18))

OPTIONS = SMALL.kernel_size, 1, 1, True, False


def threads_for(case, most):
    return _C.threads_for(*case.shape, kernel_size=case.kernel_size, groups=case.groups, most=most)


def test_a_second_thread_begins_with_the_work_for_it():
    assert threads_for(Case((1, 8, 3, 4)), most=64) == 1
    assert (threads_for(SMALL, most=64), threads_for(LARGE, most=64)) == (1, 2)
    assert threads_for(Case((1, 64, 12 * 16, 18)), most=64) == 34
    assert threads_for(Case((1, 64, 12 * 16, 18)), most=8) == 8
    assert threads_for(Case((0, 64, 12, 18)), most=2) == 1


@pytest.fixture
def set_num_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", [SMALL, LARGE], ids=["small", "large"])
def test_results_are_the_same_bits_around_the_threshold(case, dtype, set_num_threads):
    input, logits, grad_out = (t.to(dtype) for t in case.tensors())

    def products():
        out, lse = torch.ops.svconv.forward(input, logits, *OPTIONS)
        grad_input = torch.ops.svconv.grad_input(grad_out, logits, lse, *OPTIONS)
        grad_logits = torch.ops.svconv.grad_weight(grad_out, input, logits, lse, *OPTIONS)
        return out, lse, grad_input, grad_logits, svconv.correlation2d(grad_out, input)

    set_num_threads(1)
    want = products()
    set_num_threads(2)
    assert all(torch.equal(got, one) for got, one in zip(products(), want, strict=True))


def test_arrays_are_the_same_bits_around_the_threshold():
    for case in (SMALL, LARGE):
        input, logits, _ = (t.numpy() for t in case.tensors())
        one, two = (svconv.numpy.svconv2d(input, logits, threads=threads) for threads in (1, 2))
        assert np.array_equal(one, two)


# A pool of threads starts with the first product that is divided, and stays: each product has a process of its own.
COUNT = """
import os, sys
import torch
import svconv.ops

torch.set_num_threads(2)
n, c, h, w, k = map(int, sys.argv[2:])
input, grad_out, logits = (torch.empty(n, channels, h, w) for channels in (c, c, k * k))
lse = torch.empty(n, 1, h, w)
arguments = {
    "forward": (input, logits), "grad_input": (grad_out, logits, lse), "grad_weight": (grad_out, input, logits, lse),
}
product = sys.argv[1]
before = len(os.listdir("/proc/self/task"))
if product == "correlation":
    svconv.ops.correlation(grad_out, input, kernel_size=k, dilation=1, groups=1)
else:
    getattr(torch.ops.svconv, product)(*arguments[product], k, 1, 1, True, False)
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("product", ["forward", "grad_input", "grad_weight", "correlation"])
def test_a_small_product_starts_no_thread(product):
    def started(case):
        command = [sys.executable, "-c", COUNT, product, *map(str, case.shape), str(case.kernel_size)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert (started(SMALL), started(LARGE)) == (0, 1)
