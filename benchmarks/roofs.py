"""Measures what the machine can do: the rates of a large copy and of a matrix product.

The two take turns with the contenders, so that a machine that slows down lowers its roof too.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from benchmarks.problems import Problem


@dataclass(frozen=True)
class Roof:
    """Two median rates: `copy` in bytes/s, read plus written; `matrix` in FLOP/s of `torch.mm`. Measured in turns with
    the contenders on `problem`."""

    device: str
    dtype: str
    threads: int
    copy: float
    matrix: float
    problem: str = ""

    def ms(self, problem: Problem, operation: str) -> float:
        """Return the least time in ms: the bytes at the copy rate or the FLOPs at the matrix rate, whichever takes
        longer."""
        return 1e3 * max(problem.bytes(operation) / self.copy, problem.flops(operation) / self.matrix)


class RoofWorker:
    """A process that measures both rates, once a turn."""

    def __init__(self, device: str, dtype: torch.dtype, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.measure"])
        self.device, self.dtype, self.threads = device, dtype, threads
        self.copies: list[float] = []
        self.matrices: list[float] = []
        self.connection, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(child, device, dtype, threads), daemon=True)
        self.process.start()
        child.close()

    def turn(self) -> None:
        self.connection.send(True)
        copy, matrix = self.connection.recv()
        self.copies.append(copy)
        self.matrices.append(matrix)

    def roof(self, problem: str) -> Roof:
        dtype = str(self.dtype).removeprefix("torch.")
        copy, matrix = statistics.median(self.copies), statistics.median(self.matrices)
        return Roof(self.device, dtype, self.threads, copy, matrix, problem)

    def close(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(connection: Connection, device: str, dtype: torch.dtype, threads: int) -> None:
    """Run in the worker's process: answer each message with the two rates.

    The matrix rate is that of the type or of float32, whichever was faster at the start: a CPU without bfloat16
    arithmetic multiplies it slower.
    """
    torch.set_num_threads(threads)
    cuda = device.startswith("cuda")
    source = torch.ones(1 << 28 if cuda else 1 << 25, device=device)
    target = torch.zeros_like(source)
    side = 8192 if cuda else 1536

    def product(kind: torch.dtype) -> Callable[[], object]:
        a, b, out = (torch.randn(side, side, device=device).to(kind) for _ in range(3))
        return lambda: torch.mm(a, b, out=out)

    fastest = min([product(kind) for kind in {dtype, torch.float32}], key=lambda call: _seconds(call, device))
    while connection.recv():
        copy, matrix = _seconds(lambda: target.copy_(source), device), _seconds(fastest, device)
        connection.send((2 * source.nbytes / copy, 2 * side**3 / matrix))


def _seconds(call: Callable[[], object], device: str) -> float:
    """Return the seconds that a call takes, after one that warms the caches."""
    synchronize = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    call()
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - start
