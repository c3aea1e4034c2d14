"""A restart while a pass of S_h is in flight, in simulated time and on streams: it never lands, and the next one is not
refused for it. Restarts on threads, in turns and in replay are tested with those."""

from fake_device import FakeDevice
from stream_runs import build, deferred

from lowlat.jobs.simulated import Costs, SimulatedStages, SimulatedWorker, VirtualClock
from lowlat.runtime import Engine
from lowlat.schedule import Every, Schedule


def test_in_simulated_time_the_worker_is_free_and_the_pass_never_lands():
    clock, costs = VirtualClock(), Costs(lower=10, higher=1000, propagate=5)
    stages, worker = SimulatedStages(clock, costs), SimulatedWorker(clock, 1000)
    with Engine(Schedule(Every(2), age_bound=None), stages, worker, clock) as engine:
        assert [engine.step(index).launched for index in range(3)] == [False, False, True]
        worker._higher_ms = 5000
        engine.restart()
        results = [engine.step(index) for index in range(3, 6)]
        assert results[2].launched and not any(result.error or result.degraded for result in results)
        clock.advance(5000)
        assert engine.step(6).landed == 5
        assert (engine.state.counts.failures, engine.state.counts.discarded) == (0, 1)


def test_on_streams_what_a_forgotten_part_has_raised_is_nobodys_failure():
    engine = build(deferred(Every(2)), FakeDevice(), segments=4)
    engine.device.progress, engine.device.beside = engine.device.finish, None
    for index in range(3):
        engine.step(index)
    engine.device.refusals["S_h"] = MemoryError("S_h: no room for F_h")
    assert not engine.turns.advance()
    engine.restart()
    results = [engine.step(index) for index in range(3, 6)]
    assert results[0].startup and results[2].launched and not any(result.error for result in results)
    while engine.turns.advance():
        pass
    assert engine.step(6).landed == 5
    assert (engine.state.counts.failures, engine.state.counts.discarded) == (0, 1)
