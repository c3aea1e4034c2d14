"""What the machine can do, measured: the rate of a large copy and of a matrix product."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from benchmarks.problems import Problem


@dataclass(frozen=True)
class Roof:
    """`copy` in bytes/s, read plus written; `matrix` in FLOP/s of `torch.mm`."""

    device: str
    dtype: str
    threads: int
    copy: float
    matrix: float

    def ms(self, problem: Problem, operation: str) -> float:
        """The least time: of the operation's bytes at the copy rate, or of its FLOPs at the matrix rate."""
        return 1e3 * max(problem.bytes(operation) / self.copy, problem.flops(operation) / self.matrix)


def measure_roof(device: str, dtype: torch.dtype, threads: int) -> Roof:
    """The best of several, in a process of its own.

    The matrix rate is the better of the type's and float32's: a CPU without bfloat16 arithmetic multiplies it slower.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        copy, matrix = pool.submit(_rates, device, dtype, threads).result()
    return Roof(device, str(dtype).removeprefix("torch."), threads, copy, matrix)


def _rates(device: str, dtype: torch.dtype, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    source = torch.ones(1 << 28 if device.startswith("cuda") else 1 << 25, device=device)
    target = torch.zeros_like(source)
    copy = 2 * source.nbytes / _best(lambda: target.copy_(source), device)
    side = 8192 if device.startswith("cuda") else 1536
    matrix = 0.0
    for kind in {dtype, torch.float32}:
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        matrix = max(matrix, 2 * side**3 / _best(lambda a=a, b=b: torch.mm(a, b), device))
    return copy, matrix


def _best(call: Callable[[], object], device: str, seconds: float = 1.0) -> float:
    """Shortest of the calls that fit in so many seconds, at least three after a warm-up; in seconds."""
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - start)
    return min(times)
