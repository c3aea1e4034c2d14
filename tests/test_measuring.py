"""How contenders are measured: what is wrong or too large is listed, what is right is timed fairly."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from planted_contenders import PLANTED

from benchmarks.checks import tolerance
from benchmarks.contenders import CONTENDERS
from benchmarks.measure import MOST_IN_TURN, Clock, Measured, measure, turn
from benchmarks.problems import OPERATIONS, Problem, Task
from benchmarks.roofs import Roof
from benchmarks.rows import rows_of

TINY = Problem("tiny", (1, 32, 10, 12), kernel_size=3)
ROOF = Roof("cpu", "float32", 2, copy=1e10, matrix=1e11)


@pytest.fixture(scope="module")
def planted() -> dict[str, Measured]:
    group = [Task(TINY, name, False, 1) for name in PLANTED]
    return {measured.contender: measured for measured in measure(group, PLANTED, budget=0.2, most=5)[0]}


@pytest.mark.serial
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("flipped", "wrong"),
        ("wrong at size", "wrong"),
        ("hungry", "out of memory"),
        ("picky", "not supported"),
        ("absent", "not installed"),
    ],
)
def test_what_cannot_be_timed_is_listed_with_its_reason(planted, name, status):
    assert planted[name].status == status
    assert planted[name].samples == {}
    (row,) = rows_of(planted[name], ROOF, OPERATIONS)
    assert (row.status, row.ms) == (status, None)


@pytest.mark.serial
def test_what_is_right_is_timed(planted):
    measured = planted["unfold"]
    assert measured.status == "ok"
    assert len(measured.samples["forward"]) >= 2
    assert measured.error <= tolerance(torch.float32)


class Gpu:
    """In place of torch.cuda: a stream that works off what is queued, while the host queues; times in ms."""

    def __init__(self, host: float) -> None:
        self.host, self.now, self.done, self.cache = host, 0.0, 0.0, "cold"

    def queue(self, ms: float) -> None:
        self.now += self.host
        self.done = max(self.done, self.now) + ms

    def _sleep(self, cycles: int) -> None:
        self.queue(cycles / 2e6)

    def zero_(self) -> None:
        self.queue(0.1)
        self.cache = "cold"

    def kernel(self) -> None:
        self.queue({"cold": 3.0, "warm": 1.0}[self.cache])
        self.cache = "warm"

    def synchronize(self) -> None:
        self.now = max(self.now, self.done)

    def Event(self, enable_timing: bool) -> SimpleNamespace:
        event = SimpleNamespace(elapsed_time=lambda end: end.time - event.time)
        event.record = lambda: setattr(event, "time", max(self.done, self.now))
        return event


@pytest.mark.parametrize("host", [0.001, 0.2])
def test_phases_on_a_gpu_start_with_a_cold_cache_and_leave_the_host_out(host, monkeypatch):
    gpu = Gpu(host)
    monkeypatch.setattr(torch, "cuda", gpu)
    clock = Clock("cpu")
    clock.cuda, clock.flush = True, gpu

    def call(mark):
        mark()
        for _ in range(2):
            gpu.kernel()
            gpu.kernel()
            mark()

    for _ in range(2):
        assert clock.time(call) == pytest.approx([4, 4])


def test_the_process_that_others_are_forked_from_leaves_the_gpu_alone():
    """Once it had asked for one, they couldn't use it."""
    program = "import torch; torch.cuda.is_available = torch.cuda._lazy_init = None; import benchmarks.measure"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_training_gives_backward_and_both():
    group = [Task(TINY, "svconv (cpu)", True, 1)]
    (measured,), _ = measure(group, CONTENDERS, budget=0.1, most=3)
    assert measured.status == "ok"
    assert set(measured.samples) == {"backward", "forward+backward"}
    pairs = zip(measured.samples["backward"], measured.samples["forward+backward"], strict=True)
    assert all(backward < both for backward, both in pairs)


@pytest.mark.serial
def test_a_result_that_is_given_is_not_counted_as_memory_of_the_call():
    problem = Problem("wide", (1, 64, 256, 320), kernel_size=3)
    group = [Task(problem, name, False, 1) for name in ("svconv (cpu)", "svconv (cpu), out=")]
    own, given = (measured.memory["forward"] for measured in measure(group, CONTENDERS, budget=0.1, most=2)[0])
    assert given < problem.feature_bytes / 2 < own


class Planted:
    """In place of `Clock`: its calls take so many seconds each, on a clock of the host that only they move."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.now, self.begun = list(seconds), 0.0, []

    def time(self, call) -> list[float]:
        took = self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        self.begun.append(self.now)
        self.now += took
        return [1e3 * took]


@pytest.mark.parametrize(
    ("seconds", "warming", "timed"),
    [
        ((6.0,), 0, 1),  # longer than a turn
        ((0.375,), 0, 4),  # the last one begins within the turn
        ((0.125,), 2, 8),
        ((1 / 1024,), 256, MOST_IN_TURN),
        ((0.375, 1 / 1024), 0, MOST_IN_TURN),  # a first call that is slow is a sample like another
        ((1 / 1024, 0.625), 2, 1),
    ],
)
def test_a_turn_has_a_fifth_to_warm_up_and_few_timed_calls(seconds, warming, timed, monkeypatch):
    clock = Planted(*seconds)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    phases = turn(clock, None, 1.25)
    assert (len(clock.begun) - len(phases), len(phases)) == (warming, timed)
    assert all(begun < 1.25 for begun in clock.begun)


PHASES = """
import torch
from benchmarks.memory import PeakMemory

size = 64 << 20
memory = PeakMemory("cpu")
memory.mark()
torch.ones(size, dtype=torch.uint8)
memory.mark()
kept = torch.ones(size // 4, dtype=torch.uint8)
memory.mark()
(first, second), total = memory.bytes()
print(first, second, total)
"""


@pytest.mark.serial
def test_peak_memory_counts_what_is_freed_again():
    # In a process of its own: a command run in this one may have had the C library keep what is freed.
    ran = subprocess.run([sys.executable, "-c", PHASES], capture_output=True, text=True, check=True)
    first, second, total = map(int, ran.stdout.split())
    assert first == pytest.approx(64 << 20, rel=0.1)
    assert second == pytest.approx(16 << 20, rel=0.1)
    assert total == first
