"""CPU threads: S_h really runs beside the fast track. Held back and let go by events; no test waits for
time."""

import os
import sys
import threading

import pytest
import torch

import lowlat.runtime.cpu.threads
from lowlat.jobs.simulated import VirtualClock
from lowlat.runtime import Engine, Job
from lowlat.runtime.cpu.threads import CoreSplit, ThreadWorker, cores_at_hand, let_go_of_threads, split_cores
from lowlat.schedule import Every, Schedule

PATIENCE_S = 30
"""Only ever waited for when a test fails."""


class HeldStages:
    """Fast track at once; a background S_h starts, says so, and is held until it is let go."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error = None
        self.main = threading.get_ident()
        self.threads = {}

    def lower(self, frame):
        self.threads["fast"] = torch.get_num_threads()
        return frame

    def higher(self, low):
        if threading.get_ident() != self.main:
            self.threads["slow"] = torch.get_num_threads()
            self.started.release()
            assert self.go.acquire(timeout=PATIENCE_S)
        if self.error is not None:
            raise self.error
        return low

    def classify(self, high):
        return high

    def hold(self, key):
        pass

    def propagate(self, key, low):
        return (low, key.source), key.high


@pytest.fixture
def held():
    """An engine on real threads whose clock stands still, its held stages, and a way to let S_h land."""
    stages, clock = HeldStages(), VirtualClock()
    worker = ThreadWorker(stages.higher, clock, cores=CoreSplit(1, 1))
    landed = threading.Semaphore(0)
    put = worker._outcomes.put

    class Told:
        """The outcomes' queue, and a sign when one is in it."""

        def put(self, outcome):
            put(outcome)
            landed.release()

        get_nowait = staticmethod(worker._outcomes.get_nowait)

    worker._outcomes = Told()

    def land():
        stages.go.release()
        assert landed.acquire(timeout=PATIENCE_S)

    engine = Engine(Schedule(Every(2), age_bound=None), stages, worker, clock)
    yield engine, stages, land
    stages.go.release(100)
    engine.close()


def test_the_fast_track_goes_on_while_s_h_is_held(held):
    engine, stages, land = held
    engine.step(0)
    engine.step(1)
    assert engine.step(2).launched
    assert stages.started.acquire(timeout=PATIENCE_S)
    results = [engine.step(index) for index in range(3, 200)]
    assert all(result.labels == (result.index, 0) for result in results), "S_h runs, the old features serve"
    assert engine.state.counts.launches == 2
    land()
    result = engine.step(200)
    assert (result.landed, result.labels, result.launched) == (2, (200, 2), True)


def test_an_exception_in_s_h_is_survived_counted_and_retried(held):
    engine, stages, land = held
    for index in range(3):
        engine.step(index)
    stages.error = MemoryError("no memory for F_h")
    land()
    result = engine.step(3)
    assert isinstance(result.error, MemoryError) and result.labels == (3, 0) and result.degraded
    stages.error = None
    land()
    assert engine.step(4).landed == 3
    assert engine.state.counts.failures == 1


def test_even_an_exception_that_ends_threads_does_not_end_the_worker(held):
    engine, stages, land = held
    for index in range(3):
        engine.step(index)
    stages.error = SystemExit()
    land()
    assert isinstance(engine.step(3).error, SystemExit)
    stages.error = None
    land()
    assert engine.step(4).landed == 3


def test_each_side_has_its_own_thread_count_and_the_old_one_comes_back():
    before = torch.get_num_threads()
    stages = HeldStages()
    engine = Engine(
        Schedule(Every(1)),
        stages,
        ThreadWorker(stages.higher, VirtualClock(), cores=CoreSplit(3, 2)),
        VirtualClock(),
    )
    engine.step(0)
    engine.step(1)
    assert stages.started.acquire(timeout=PATIENCE_S)
    engine.step(2)
    stages.go.release()
    engine.close()
    assert stages.threads == {"fast": 3, "slow": 2}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("closed_first", [0, 1])
def test_with_several_workers_the_thread_keeps_the_count_of_those_open_until_the_last_is_closed(closed_first):
    before = torch.get_num_threads()
    splits = [CoreSplit(before + 2, 1), CoreSplit(before + 1, 1)]
    workers = [ThreadWorker(lambda low: low, VirtualClock(), cores=cores) for cores in splits]
    workers[closed_first].close()
    assert torch.get_num_threads() == splits[1 - closed_first].fast
    workers[1 - closed_first].close()
    assert torch.get_num_threads() == before


def test_what_setting_up_the_thread_raises_is_raised_where_the_worker_is_made(monkeypatch):
    before, made = torch.get_num_threads(), []

    def refuse(count):
        raise MemoryError("no threads to be had")

    def make():
        with pytest.raises(MemoryError, match="no threads to be had"):
            ThreadWorker(lambda low: low, VirtualClock(), cores=CoreSplit(1, 1))
        made.append(torch.get_num_threads())

    monkeypatch.setattr(lowlat.runtime.cpu.threads, "set_own_threads", refuse)
    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    maker.join(PATIENCE_S)
    assert made == [before]


def test_closing_waits_for_the_job_in_flight_and_may_be_repeated(held):
    engine, stages, _ = held
    for index in range(3):
        engine.step(index)
    assert stages.started.acquire(timeout=PATIENCE_S)
    stages.go.release()
    engine.close()
    engine.close()
    assert not engine._worker._thread.is_alive()


def test_closing_does_not_wait_for_a_job_that_hangs(held):
    engine, stages, _ = held
    for index in range(3):
        engine.step(index)
    assert stages.started.acquire(timeout=PATIENCE_S)
    with pytest.warns(RuntimeWarning, match="still running after 0 s"):
        engine._worker.close(timeout_s=0)


def test_a_restart_frees_the_worker_and_the_pass_it_met_never_lands(held):
    engine, stages, land = held
    for index in range(3):
        engine.step(index)
    assert stages.started.acquire(timeout=PATIENCE_S)
    engine.restart()
    assert engine.step(3).startup
    results = [engine.step(4), engine.step(5)]
    assert results[1].launched and not any(result.error or result.degraded for result in results)
    land()
    assert engine.step(6).landed is None, "the pass on frame 2"
    land()
    result = engine.step(7)
    assert (result.landed, result.labels) == (5, (7, 5))
    assert (engine.state.counts.failures, engine.state.counts.discarded) == (0, 1)


def test_a_job_forgotten_before_its_turn_never_runs():
    started, go, ran = threading.Event(), threading.Event(), []

    def higher(low):
        ran.append(low)
        started.set()
        assert go.wait(PATIENCE_S)

    worker = ThreadWorker(higher, VirtualClock(), cores=CoreSplit(1, 1))
    for launch in (1, 2, 3):
        worker.submit(Job(launch, 0, launch))
        assert started.wait(PATIENCE_S)
        if launch < 3:
            worker.forget()
    go.set()
    worker.close()
    assert ran == [1, 3] and worker.poll(0).job.launch == 3 and worker.poll(0) is None


def test_a_busy_or_closed_worker_refuses_a_job():
    worker = ThreadWorker(lambda low: low, VirtualClock(), cores=CoreSplit(1, 1))
    worker.submit(Job(1, 0, None))
    with pytest.raises(RuntimeError, match="one with a job in flight"):
        worker.submit(Job(2, 1, None))
    worker.close()
    with pytest.raises(RuntimeError, match="a closed one"):
        worker.submit(Job(2, 1, None))


@pytest.mark.parametrize(
    ("cores", "split"), [(1, (1, 1)), (2, (1, 1)), (3, (2, 1)), (4, (2, 2)), (7, (4, 3)), (16, (8, 8))]
)
def test_the_fast_track_keeps_its_cores(cores, split):
    assert split_cores(cores) == CoreSplit(*split)


def test_the_split_defaults_to_the_cores_at_hand():
    assert split_cores() == split_cores(cores_at_hand())
    with pytest.raises(ValueError, match="leave it out"):
        split_cores(0)


@pytest.mark.parametrize(
    ("cores", "side", "got"), [((1, 0), "slow", 0), ((-1, 1), "fast", -1), ((2.0, 1), "fast", 2.0)]
)
def test_a_split_that_is_none_is_refused(cores, side, got):
    words = rf"CoreSplit\.{side}: expected a whole number of at least 1 core, got {got}; split_cores"
    with pytest.raises(ValueError, match=words):
        CoreSplit(*cores)


@pytest.mark.skipif(sys.platform != "linux", reason="a niceness for each thread")
def test_s_h_gives_way_and_leaves_the_fast_track_alone():
    before, seen = os.getpriority(os.PRIO_PROCESS, 0), []
    worker = ThreadWorker(lambda low: seen.append(os.getpriority(os.PRIO_PROCESS, 0)), VirtualClock())
    worker.submit(Job(1, 0, None))
    worker.close()
    assert seen == [min(before + 5, 19)] and os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads in /proc")
def test_the_callers_openmp_threads_are_let_go_and_come_again_when_they_are_needed():
    values, counts = torch.rand(1 << 20), []

    def parallel_loops():
        torch.get_num_threads()
        torch.set_num_threads(3)
        for let_go in (False, True, False):
            before = len(os.listdir("/proc/self/task"))
            if let_go:
                let_go_of_threads()
            else:
                assert torch.equal(values + values, 2 * values)
            counts.append(len(os.listdir("/proc/self/task")) - before)

    caller = threading.Thread(target=parallel_loops)
    caller.start()
    caller.join(PATIENCE_S)
    assert counts == [2, -2, 2]


def test_a_real_network_runs_on_both_sides():
    """A convolution as S_h and a sum as propagation: the values of the frame they should come from."""
    torch.manual_seed(0)
    weight = torch.randn(4, 4, 3, 3)
    frames = [torch.randn(1, 4, 16, 24) for _ in range(6)]

    class Stages(HeldStages):
        @torch.inference_mode()
        def higher(self, low):
            return torch.nn.functional.conv2d(low, weight, padding=1)

        @torch.inference_mode()
        def propagate(self, key, low):
            return (low + key.high), key.high

    stages, clock = Stages(), VirtualClock()
    worker = ThreadWorker(stages.higher, clock, cores=CoreSplit(1, 1))
    with Engine(Schedule(Every(2), age_bound=None), stages, worker, clock) as engine:
        for frame in frames[:3]:
            engine.step(frame)
        worker._jobs.put(None)
        worker._thread.join(PATIENCE_S)
        result = engine.step(frames[3])
        assert result.landed == 2
        torch.testing.assert_close(result.labels, frames[3] + stages.higher(frames[2]), rtol=1e-5, atol=1e-5)
