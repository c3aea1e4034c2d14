"""Memory of large results on the CPU: that of an earlier one serves again once it is freed, and never before."""

import threading

import pytest
import torch

from svconv import svconv2d

# 4 MiB of float32, from where on memory is kept.
SHAPE = (1, 64, 128, 128)


@pytest.fixture(scope="module")
def tensors():
    generator = torch.Generator().manual_seed(0)
    n, _, h, w = SHAPE
    return [torch.randn(shape, generator=generator) for shape in (SHAPE, (n, 9, h, w))]


def result(tensors):
    return svconv2d(*tensors, kernel_size=3)


def wanted(tensors):
    return svconv2d(*tensors, kernel_size=3, backend="reference")


def test_the_memory_of_a_freed_result_serves_the_next_one(tensors):
    first = result(tensors)
    address = first.data_ptr()
    del first
    assert result(tensors).data_ptr() == address


def test_results_that_live_share_no_memory(tensors):
    input, logits = tensors
    results = [result([input * factor, logits]) for factor in (1.0, 2.0, 3.0)]
    views = [results.pop()[:, :1]]  # holds the memory of a result that is gone itself
    results.append(result([input * 5.0, logits]))
    assert len({t.data_ptr() for t in (*results, *views)}) == 4
    want = wanted(tensors)
    for got, factor in zip(results, (1.0, 2.0, 5.0), strict=True):
        torch.testing.assert_close(got, factor * want)
    torch.testing.assert_close(views[0], 3.0 * want[:, :1])


def test_a_result_in_kept_memory_is_as_any_other(tensors):
    for layout in (torch.contiguous_format, torch.channels_last):
        input, logits = (t.contiguous(memory_format=layout) for t in tensors)
        result([input, logits])  # leaves memory behind
        got = result([input, logits])
        assert (got.device, got.dtype, got.stride()) == (input.device, input.dtype, input.stride())
        torch.testing.assert_close(got, wanted(tensors))
        got.share_memory_()
        torch.testing.assert_close(got.clone(), wanted(tensors))


def test_another_thread_may_free_a_result(tensors):
    results = [result(tensors) for _ in range(3)]
    thread = threading.Thread(target=results.clear)
    thread.start()
    thread.join()
    torch.testing.assert_close(result(tensors), wanted(tensors))


def test_gradients_of_a_sum_are_those_of_ones(tensors):
    """The gradient of a sum comes as one number that is expanded: its strides are 0."""
    gradients = []
    for reduce in (lambda out: out.sum(), lambda out: (out * torch.ones_like(out)).sum()):
        input, logits = (t.clone().requires_grad_() for t in tensors)
        reduce(result([input, logits])).backward()
        gradients.append((input.grad, logits.grad))
    for expanded, dense in zip(*gradients, strict=True):
        assert torch.equal(expanded, dense)
