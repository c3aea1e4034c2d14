"""Replay: S_h lands an exact number of frames later."""

import pytest

from lowlat.lab.replay import PAPER_DELAY, ReplayWorker
from lowlat.runtime import Engine, Job
from lowlat.schedule import Every, Schedule


def replay(build, delay, failing=(), steps=6):
    """An engine with the fakes' stages and a replay worker."""
    stages = build(Schedule(Every(5))).stages
    stages.broken = {("higher", frame) for frame in failing}
    worker = ReplayWorker(stages, delay, stages.clock)
    engine = Engine(Schedule(Every(5), age_bound=None, steps=steps), stages, worker, stages.clock)
    engine.stages = stages
    return engine


@pytest.mark.parametrize("delay", [1, 2, PAPER_DELAY, 4])
def test_features_are_used_exactly_so_many_frames_after_their_launch(build, delay):
    engine = replay(build, delay)
    results = [engine.step(index) for index in range(30)]
    assert [result.index for result in results if result.launched] == [5, 10, 15, 20, 25]
    assert [(r.index - r.landed) for r in results if r.landed is not None] == [delay] * 5
    assert [r.age for r in results[10:15]] == [5 + i if i < delay or i == 0 else i for i in range(5)]


def test_the_paper_delay_is_that_of_its_table_3():
    assert PAPER_DELAY == 3 == -(-299 // 119)


def test_a_replay_repeats_itself(build):
    runs = [[engine.step(index).labels for index in range(40)] for engine in (replay(build, 3), replay(build, 3))]
    assert runs[0] == runs[1]


def test_a_failure_lands_with_the_delay_too(build):
    engine = replay(build, 3, failing=[5])
    results = [engine.step(index) for index in range(12)]
    assert [result.index for result in results if result.error] == [8]
    assert [result.index for result in results if result.launched] == [5, 8]


def test_ctrl_c_during_s_h_goes_through_and_costs_that_pass(build):
    engine = replay(build, 3)
    stages = engine._worker._stages
    higher = stages.higher

    def interrupted(low):
        stages.higher = higher
        raise KeyboardInterrupt

    for index in range(5):
        engine.step(index)
    stages.higher = interrupted
    with pytest.raises(KeyboardInterrupt):
        engine.step(5)
    results = [engine.step(index) for index in range(6, 12)]
    assert engine.state.counts.failures == 1 and results[0].launched, "the pass has failed, and is tried again"
    assert [result.landed for result in results if result.landed is not None] == [6]
    assert not any(result.startup for result in results)


def test_a_restart_frees_the_worker_and_the_pass_it_met_never_lands(build):
    engine = replay(build, 10)
    for index in range(6):
        engine.step(index)
    engine.restart()
    results = [engine.step(index) for index in range(6, 30)]
    assert not any(result.error or result.degraded for result in results)
    assert [result.landed for result in results if result.landed is not None] == [11]
    assert engine.state.counts.discarded == 1


def test_no_delay_is_refused():
    with pytest.raises(ValueError, match="mode='blocking'"):
        ReplayWorker(None, 0)


def test_a_second_job_is_refused(build):
    worker = ReplayWorker(build(Schedule(Every(5))).stages, 2)
    worker.submit(Job(1, 5, ("low", 5)))
    with pytest.raises(RuntimeError, match="poll until it lands"):
        worker.submit(Job(2, 6, ("low", 6)))


@pytest.mark.parametrize("steps, base", [(6, 11), (1, 8), (0, 5)])
def test_features_are_carried_along_the_bases_that_came_before_they_land(build, steps, base):
    engine = replay(build, 9, steps=steps)
    for index in range(14):
        engine.step(index)
    calls = [what for stage, what in engine.stages.calls if stage == "propagate"]
    assert engine.step(14).landed == 5
    path = [8, 11][:steps]
    # What is carried along the path, then frame 14 itself.
    assert [what for stage, what in engine.stages.calls if stage == "propagate"] == [*calls, *path, 14]
    assert engine.stages.bases[-1] == ("low", base), "propagated from the last base on the path"


def test_a_step_that_fails_costs_the_pass(build):
    engine = replay(build, 9)
    for index in range(14):
        engine.step(index)
    engine.stages.broken = {("propagate", 8)}
    result = engine.step(14)
    assert isinstance(result.error, ArithmeticError) and result.degraded and result.landed is None
    assert (engine.state.base, engine.stages.bases[-1]) == (14, ("low", 11)), "features stay with the newest base"
