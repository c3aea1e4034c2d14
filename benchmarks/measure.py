"""Measures contenders: each task in a process of its own, their calls taking turns.

A process of its own keeps a task's memory, its thread count and its failures to itself. A task is warmed up on a small
problem that is checked in full, or compiled in a first call; then a call's results are checked by samples and its
memory is measured. Only what is right is timed.
"""

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from benchmarks import checks
from benchmarks.contenders import Contender, Function
from benchmarks.memory import PeakMemory, is_out_of_memory, limit_memory
from benchmarks.problems import Group, Problem, Task
from benchmarks.roofs import Roof, RoofWorker

# A turn lasts so many seconds at most; a fast contender makes several calls in it, but so few that it takes ten turns
# for its samples. In one turn it would be measured at one moment alone, and the roof over the whole run.
TURN = 0.1
FEWEST, MOST, MOST_IN_TURN = 2, 200, 20
# Clock cycles, about a millisecond, for which a GPU waits before a phase, so that what the host queues is ahead of it.
HEAD_START = 2_000_000


@dataclass
class Measured:
    """What was measured for one task.

    `status` is "ok", "wrong", "out of memory", "not supported", "not installed" or "failed", `note` says more.
    `error` is the largest difference from float64 over the largest value. For each of the task's operations: `samples`
    in ms and `memory` in bytes.
    """

    task: Task
    contender: str
    status: str = "ok"
    note: str = ""
    error: float | None = None
    memory: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)


class Call:
    """One call of a contender on a problem; calls `mark` at the boundaries of its phases, forward and then backward."""

    def __init__(
        self, function: Function, problem: Problem, tensors: tuple[Tensor, ...], training: bool, step: bool = False
    ) -> None:
        self.function, self.kernel_size, self.training, self.step = function, problem.kernel_size, training, step
        self.input, self.logits, self.grad_out = (tensor.detach() for tensor in tensors)
        if training:
            self.input.requires_grad_()
            self.logits.requires_grad_()

    def __call__(self, mark: Callable[[], None] = lambda: None) -> tuple[Tensor, ...]:
        mark()
        with torch.inference_mode(not self.training):
            out = self.function(self.input, self.logits, self.kernel_size)
        mark()
        if not self.training:
            return (out,)
        if self.step:
            # Gradients are fresh ones, which is what an optimizer's zero_grad() leaves room for.
            out.sum().backward()
            grads = self.input.grad, self.logits.grad
            self.input.grad = self.logits.grad = None
        else:
            grads = torch.autograd.grad(out, (self.input, self.logits), self.grad_out)
        mark()
        return out.detach(), *grads


class Clock:
    """Takes the milliseconds between marks: by the wall clock, or on a CUDA device by events.

    On a CUDA device each phase starts with an empty L2 cache and with its work queued: only the kernels are timed.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        if self.cuda:
            size = torch.cuda.get_device_properties(device).L2_cache_size
            self.flush = torch.empty(max(2 * size, 1 << 26), dtype=torch.int8, device=device)

    def time(self, call: Call) -> list[float]:
        if not self.cuda:
            marks = []
            call(lambda: marks.append(time.perf_counter()))
            return [1e3 * (end - start) for start, end in zip(marks, marks[1:], strict=False)]
        starts, ends = [], []

        def mark() -> None:
            ends.append(_event())
            self.flush.zero_()
            torch.cuda._sleep(HEAD_START)
            starts.append(_event())

        call(mark)
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in zip(starts, ends[1:], strict=False)]


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def by_operation(task: Task, phases: list, total: object) -> dict[str, object]:
    """Name the phases of a call by operation: forward alone, or in training backward and the total of both."""
    return {"backward": phases[1], "forward+backward": total} if task.training else {"forward": phases[0]}


def serve(connection: Connection, task: Task, contender: Contender, device: str) -> None:
    """Run in a task's process: prepare, send a `Measured`, then send samples for each number of seconds received."""
    measured = Measured(task, contender.name)
    call = clock = None
    try:
        torch.set_num_threads(task.threads)
        if device == "cpu":
            limit_memory()
        call = _prepare(measured, contender, device)
        clock = Clock(device)
    except Exception as error:
        measured.status, measured.note = _verdict(error), _first_line(error)
    connection.send(measured)
    while measured.status == "ok" and (seconds := connection.recv()) is not None:
        try:
            connection.send(turn(clock, call, seconds))
        except Exception as error:
            connection.send((_verdict(error), _first_line(error)))


def _prepare(measured: Measured, contender: Contender, device: str) -> Call:
    task, problem = measured.task, measured.task.problem
    limit = checks.tolerance(problem.dtype)
    measured.error = checks.gate(contender.function, problem, task.training, device)
    if measured.error > limit:
        measured.status, measured.note = "wrong", f"error {measured.error:.1e} on the small problem"
        return None
    tensors = problem.tensors(device)
    if contender.step:
        # The gradient of a sum.
        tensors = *tensors[:2], torch.ones_like(tensors[2])
    call = Call(contender.timed, problem, tensors, task.training, contender.step)
    # A first call compiles, or allocates the result that later calls reuse, before memory is measured.
    if contender.compiled or contender.inference:
        call()
    memory = PeakMemory(device)
    results = call(memory.mark)
    measured.memory = by_operation(task, *memory.bytes())
    measured.error = max(measured.error, checks.sampled_error(problem, tensors, results))
    if measured.error > limit:
        measured.status, measured.note = "wrong", f"error {measured.error:.1e} on the problem itself"
    return call


def turn(clock: Clock, call: Call, seconds: float) -> list[list[float]]:
    """Time calls for so many seconds: at least one and at most `MOST_IN_TURN`.

    Short calls aren't timed in the first fifth, in which they warm the caches, and the threads of the process whose
    turn it was before, which wait actively for some milliseconds, go to sleep.
    """
    start = time.perf_counter()
    phases = [clock.time(call)]
    if sum(phases[0]) < 1e3 * seconds / 5:
        phases = []
        while time.perf_counter() - start < seconds / 5:
            clock.time(call)
    while not phases or (len(phases) < MOST_IN_TURN and time.perf_counter() - start < seconds):
        phases.append(clock.time(call))
    return phases


def _verdict(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory"
    return "not supported" if isinstance(error, (NotImplementedError, ValueError)) else "failed"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


class Worker:
    """Starts and asks the process of a task."""

    def __init__(self, task: Task, contender: Contender, device: str) -> None:
        # The server has imported everything once and never run a thread, so that forks of it start fast and sound.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.measure"])
        self.task, self.spent = task, 0.0
        self.connection, child = context.Pipe()
        self.process = context.Process(target=serve, args=(child, task, contender, device), daemon=True)
        self.measured = Measured(task, contender.name)
        if contender.missing:
            self.measured.status = "not installed"
            return
        self.process.start()
        child.close()
        self.measured = self._answer() or self.measured

    def turn(self, seconds: float = TURN) -> None:
        start = time.perf_counter()
        self.connection.send(seconds)
        answer = self._answer()
        self.spent += time.perf_counter() - start
        if isinstance(answer, tuple):
            self.measured.status, self.measured.note = answer
        for phases in answer if isinstance(answer, list) else ():
            for operation, ms in by_operation(self.task, phases, sum(phases)).items():
                self.measured.samples.setdefault(operation, []).append(ms)

    def wants(self, share: float, most: int) -> bool:
        """Whether another turn is due: until it has `FEWEST` samples, then `most` or as many as fit `share` seconds."""
        count = max((len(samples) for samples in self.measured.samples.values()), default=0)
        if self.measured.status != "ok" or count >= most:
            return False
        turns_fit = self.spent + self.spent / max(count, 1) <= share
        return count < FEWEST or turns_fit

    def _answer(self) -> object:
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            killed = self.process.exitcode == -9
            self.measured.status = "out of memory" if killed else "failed"
            self.measured.note = "killed" if killed else f"exit code {self.process.exitcode}"
            return None

    def close(self) -> None:
        if self.process.pid is not None:
            self.process.kill()
            self.process.join()


def measure(
    group: Group,
    contenders: dict[str, Contender],
    device: str = "cpu",
    budget: float = 60,
    most: int = MOST,
    progress: Callable[[str], None] = lambda doing: None,
) -> tuple[list[Measured], dict[tuple[torch.dtype, int], Roof]]:
    """Measure every task of the group, and the roofs; in turns, so that a machine's ups and downs fall on all alike.

    Args:
        budget: seconds for the group, divided evenly; a slow contender gets fewer samples, but `FEWEST` at least.
        most: samples of a contender at most.
        progress: called with what is being done.

    Returns:
        what was measured, and the roofs by type and number of threads.
    """
    workers: list[Worker] = []
    roofs: dict[tuple[torch.dtype, int], RoofWorker] = {}
    try:
        for task in group:
            for contender in of_name(task.contender, contenders, task.training):
                progress(f"checking {contender.name}")
                workers.append(Worker(task, contender, device))
            kind = (task.problem.dtype, task.threads)
            if kind not in roofs:
                roofs[kind] = RoofWorker(device, *kind)
        share = budget / max(len(workers), 1)
        for roof in roofs.values():
            roof.turn()
        while due := [worker for worker in workers if worker.wants(share, most)]:
            for worker in due:
                progress(f"timing {worker.measured.contender}")
                worker.turn()
            for roof in roofs.values():
                roof.turn()
        name = group[0].problem.name
        return [worker.measured for worker in workers], {kind: roof.roof(name) for kind, roof in roofs.items()}
    finally:
        for worker in [*workers, *roofs.values()]:
            worker.close()


def of_name(name: str, contenders: dict[str, Contender], training: bool) -> list[Contender]:
    """Return the contender called `name`, or for "svconv" one for each backend; in training only those with
    gradients."""
    named = [contenders[name]] if name in contenders else []
    found = named or [contender for key, contender in contenders.items() if key.startswith(f"{name} (")]
    return [contender for contender in found if contender.runs(training)]
