"""The device interface on `torch.cuda`. Beside `driver.py` this is the only file of the runtime that calls CUDA."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lowlat.runtime.gpu import driver
from lowlat.runtime.gpu.device import Buffer, Priority, Work
from lowlat.runtime.options import find_device


class CudaEvent:
    """A `torch.cuda.Event`. The host sleeps while it waits for one that isn't timed, which frees its core."""

    def __init__(self, name: str, zero: tuple[torch.cuda.Event, float] | None, timed: bool) -> None:
        self.name, self._zero = name, zero
        self.event = torch.cuda.Event(enable_timing=timed, blocking=not timed)

    def done(self) -> bool:
        return self.event.query()

    def wait(self) -> None:
        self.event.synchronize()

    def ms(self) -> float:
        event, ms = self._zero
        return ms + event.elapsed_time(self.event)

    def ms_since(self, start: CudaEvent) -> float:
        return start.event.elapsed_time(self.event)


class CudaGraph:
    """A `torch.cuda.CUDAGraph` and the stream it runs on."""

    def __init__(self, graph: torch.cuda.CUDAGraph, stream: CudaStream) -> None:
        self._graph, self.stream = graph, stream

    def replay(self) -> None:
        with torch.cuda.stream(self.stream._stream):
            self._graph.replay()


class CudaStream:
    """A CUDA stream. Work on it allocates from memory that no other stream uses."""

    def __init__(self, name: str, stream: torch.cuda.Stream, pools: dict[str, tuple[Any, CudaStream]]) -> None:
        self.name, self._stream, self._pools = name, stream, pools

    def run(self, work: Work, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> None:
        try:
            with torch.cuda.stream(self._stream):
                work(*(buffer.value for buffer in (*reads, *writes)))
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"{self.name}: {error}") from error

    def copy(self, source: Buffer, target: Buffer) -> None:
        with torch.cuda.stream(self._stream):
            target.value.copy_(source.value, non_blocking=True)

    def wait(self, event: CudaEvent) -> None:
        self._stream.wait_event(event.event)

    def record(self, event: CudaEvent) -> None:
        event.event.record(self._stream)

    def capture(self, pool: str, work: Work, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> CudaGraph:
        if pool not in self._pools:
            self._pools[pool] = (torch.cuda.graph_pool_handle(), self)
        handle, owner = self._pools[pool]
        if owner is not self:
            raise RuntimeError(
                f"CudaStream.capture: expected a pool of this stream {self.name!r}, got {pool!r} of another one, whose "
                "graphs could run at the same time in the same memory; make a CudaDevice for each video"
            )
        graph = torch.cuda.CUDAGraph()
        try:
            # Other videos of the process go on enqueuing meanwhile, on other threads.
            capture = torch.cuda.graph(graph, pool=handle, stream=self._stream, capture_error_mode="thread_local")
            with driver.alone, capture:
                work(*(buffer.value for buffer in (*reads, *writes)))
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"{self.name}, capturing: {error}") from error
        return CudaGraph(graph, self)


class CudaDevice:
    """One NVIDIA GPU as one video uses it: no other video has its streams, or its memory pools of graphs.

    Args:
        device: a GPU, as `lowlat.runtime.options.find_device` takes it.

    Attributes:
        low: the stream for work of low priority, if it is not to share all multiprocessors (see `partition`).

    Raises:
        ValueError, RuntimeError: there is no such GPU.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = find_device("CudaDevice", device)
        # A video's sizes never change, so cuDNN may measure which algorithm is fastest for each convolution.
        torch.backends.cudnn.benchmark = True
        self.low: torch.cuda.Stream | None = None
        self._taken: list[tuple[int, bool]] = []
        self._pools: dict[str, tuple[Any, CudaStream]] = {}
        self._start = time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        self.synchronize()
        event.record(torch.cuda.current_stream(self.device))
        event.synchronize()
        self._zero = (event, self.now())

    def stream(self, name: str, priority: Priority) -> CudaStream:
        if priority is Priority.LOW and self.low is not None:
            return CudaStream(name, self.low, self._pools)
        urgent = priority is Priority.HIGH
        handle = driver.take_stream(self.device, urgent=urgent)
        self._taken.append((handle, urgent))
        return CudaStream(name, torch.cuda.ExternalStream(handle, device=self.device), self._pools)

    def event(self, name: str, *, timed: bool = False) -> CudaEvent:
        return CudaEvent(name, self._zero if timed else None, timed)

    def buffer(self, name: str, make: Callable[[], Any], *, host: bool = False) -> Buffer:
        try:
            value = make()
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"{name}: {error}") from error
        if host:
            value = value.pin_memory()
        return Buffer(name, value, host)

    def host(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> Any:
        return work(*(buffer.value for buffer in (*reads, *writes)))

    def synchronize(self) -> None:
        with driver.alone:
            torch.cuda.synchronize(self.device)

    def now(self) -> float:
        return (time.perf_counter() - self._start) * 1e3

    def close(self) -> None:
        if self._taken:
            self.synchronize()
        while self._taken:
            handle, urgent = self._taken.pop()
            driver.give_back(self.device, handle, urgent=urgent)


def partition(sms: int, device: torch.device) -> tuple[torch.cuda.Stream, int | None]:
    """Make a stream whose kernels run on about `sms` of the device's multiprocessors only (a CUDA green context).

    Returns:
        The stream, and how many multiprocessors the driver has granted, since it rounds the number; None if the driver
        can't tell.

    Raises:
        ValueError: `sms` is below 1, or leaves none for the frames.
        RuntimeError: torch or the driver has no green contexts.
    """
    maker = getattr(torch.cuda, "GreenContext", None)
    if maker is None:
        raise RuntimeError(f"partition: torch {torch.__version__} is without green contexts")
    total = torch.cuda.get_device_properties(device).multi_processor_count
    if not 1 <= sms < total:
        raise ValueError(f"partition: expected 1 to {total - 1} multiprocessors for S_h, got {sms}")
    context = maker.create(num_sms=sms, device_id=device.index)
    if not hasattr(context, "Stream"):
        raise RuntimeError(f"partition: torch {torch.__version__} makes no streams in green contexts")
    stream = context.Stream()
    # The context lives as long as its stream.
    stream.green_context = context
    _try(stream, device)
    return stream, driver.multiprocessors_of(stream.cuda_stream)


def _try(stream: torch.cuda.Stream, device: torch.device) -> None:
    """Does once what the runtime does with a stream, so that it raises here if it can't be done."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    with torch.cuda.stream(stream):
        torch.ones(1, device=device).add_(1)
    end.record(stream)
    torch.cuda.current_stream(device).wait_event(end)
    with driver.alone:
        torch.cuda.synchronize(device)
    start.elapsed_time(end)
