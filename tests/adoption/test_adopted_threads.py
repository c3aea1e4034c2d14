"""Tracing a size on one thread while others run networks, the same one or another."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import small
import torch
from torch import nn

import lowlat
from lowlat.adoption.tracing import trace

pytestmark = pytest.mark.usefixtures("one_thread")


def adopted(model):
    return lowlat.adopt(model, split="stem", features="neck", example=torch.zeros(1, 3, 32, 48), classes=3)


def test_modules_that_run_beside_a_trace_are_left_as_they_are():
    """The model that is traced waits, in the middle of each pass of its trace, until another thread has run modules."""
    owner, found = threading.get_ident(), []

    class Waiting(small.Plain):
        def high(self, low):
            if threading.get_ident() == owner:
                with ThreadPoolExecutor(1) as pool:
                    found.append(pool.submit(beside).result(60))
            return super().high(low)

    model, other = Waiting().eval(), nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    frame = torch.rand(1, 3, 32, 48)

    @torch.no_grad()
    def beside():
        return other(frame), model.neck(model.stem(frame))

    expected = beside()
    traced = trace(model, (32, 48))
    assert found and all(torch.equal(*pair) for each in found for pair in zip(each, expected, strict=True))
    assert {"stem", "blocks.0", "neck", "head"} <= set(traced.outputs)


def test_a_trace_leaves_nothing_in_the_model():
    class Keeping(small.Plain):
        def low(self, frames):
            self.last = super().low(frames)
            return self.last

    model = Keeping()
    adopted(model)
    assert type(model.last) is torch.Tensor


def test_sizes_are_traced_on_several_threads_at_once():
    first, second = adopted(small.Plain()), adopted(small.Aligned())
    frames = [torch.rand(1, 3, 32 + 4 * step, 48) for step in range(4)]

    @torch.no_grad()
    def run(turn):
        network, whole = (first, first.model) if turn % 2 else (second, second.model)
        for step in range(4):
            frame = frames[(step + turn) % 4]
            scores = nn.functional.interpolate(network(frame), frame.shape[-2:], mode="bilinear")
            torch.testing.assert_close(scores, whole(frame), rtol=1e-4, atol=1e-4)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
