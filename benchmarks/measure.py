"""How it is measured: the correctness gate, then medians over alternating repetitions in one process."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.contenders import BASELINE, CONTENDERS
from benchmarks.problems import Problem


@dataclass(frozen=True)
class Timing:
    """Milliseconds; `error` is the largest difference from float64 over the largest value, `correct` its verdict."""

    contender: str
    direction: str
    median: float
    low: float
    high: float
    error: float
    correct: bool


def forward(function: Callable, problem: Problem) -> Callable[[], object]:
    input, logits, _ = problem.tensors()

    def call():
        with torch.inference_mode():
            return function(input, logits, problem.kernel_size)

    return call


def forward_backward(function: Callable, problem: Problem) -> Callable[[], object]:
    input, logits, grad_out = problem.tensors()
    input.requires_grad_()
    logits.requires_grad_()

    def call():
        out = function(input, logits, problem.kernel_size)
        return out.detach(), *torch.autograd.grad(out, (input, logits), grad_out)

    return call


DIRECTIONS = {"forward": forward, "forward+backward": forward_backward}


def gate(function: Callable, problem: Problem) -> tuple[float, bool]:
    """Error of out and both gradients against float64, on the problem cut down to 24 channels and 40 x 56 pixels."""
    n, c, h, w = problem.shape
    shape = (n, min(c, 24), min(h, 40), min(w, 56))
    small = Problem("gate", shape, problem.kernel_size, problem.dtype, problem.channels_last)
    tensors = small.tensors()
    got = forward_backward(function, small)()
    wide = [t.double().requires_grad_() for t in tensors[:2]]
    out = CONTENDERS[BASELINE](*wide, problem.kernel_size)
    want = (out.detach(), *torch.autograd.grad(out, wide, tensors[2].double()))
    error = max(((g.double() - e).abs().max() / e.abs().max()).item() for g, e in zip(got, want, strict=True))
    # A contender may round its weights to the type once more than the result.
    return error, error <= 16 * torch.finfo(problem.dtype).eps


def measure(problem: Problem, direction: str, repetitions: int, progress: Callable[[], None]) -> list[Timing]:
    """Every contender on one problem. A wrong one is listed, not timed. Calls take turns, so that a
    machine's ups and downs fall on all alike."""
    verdicts = {name: gate(function, problem) for name, function in CONTENDERS.items()}
    calls = {
        name: DIRECTIONS[direction](function, problem) for name, function in CONTENDERS.items() if verdicts[name][1]
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        progress()
    for _ in range(repetitions):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
            progress()
    return [Timing(name, direction, *spread(times.get(name, [])), *verdicts[name]) for name in CONTENDERS]


def spread(samples: list[float]) -> tuple[float, float, float]:
    """Median, 20th and 80th percentile; NaN of nothing."""
    if not samples:
        return (float("nan"),) * 3
    ordered = sorted(samples)
    last = len(ordered) - 1
    return statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)]
