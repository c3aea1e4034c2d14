"""S_h in parts between frames: when a part may begin, and that labels don't depend on whose turn it was."""

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowlat.jobs.simulated import VirtualClock
from lowlat.runtime import Engine, Job, WallClock
from lowlat.runtime.cpu.engine import cpu_engine
from lowlat.runtime.cpu.team import Team, TeamStages
from lowlat.runtime.cpu.threads import CoreSplit, cores_at_hand
from lowlat.runtime.cpu.turns import GRACE_MS, LANDS_WITHIN, TurnRule
from lowlat.runtime.stages import NetworkStages
from lowlat.schedule import Every, Schedule

PATIENCE_S = 30
"""Only ever waited for when a test fails."""


def regular(rule, period=100.0, busy=40.0, frames=6):
    """Frames every ``period`` ms, each under way for ``busy``; the time at which the last one ended."""
    for index in range(frames):
        rule.frame_begun(index * period)
        rule.frame_ended(index * period + busy)
    return (frames - 1) * period + busy


def learn(rule, costs):
    """Runs one whole pass, from which the rule learns the costs."""
    rule.pass_begun()
    for part, cost in enumerate(costs):
        rule.part_ran(part, cost)
    rule.pass_begun()


def test_no_part_begins_while_a_frame_is_under_way():
    rule = TurnRule()
    regular(rule)
    rule.frame_begun(600)
    assert rule.wait(0, 605) == math.inf and not rule.overdue(0)
    rule.frame_ended(640)
    assert rule.wait(0, 640.2) == pytest.approx(0.8), "the decision comes first"
    assert rule.wait(0, 641) == 0


def test_not_even_an_overdue_part_interrupts_a_frame():
    rule = TurnRule()
    learn(rule, [10.0, 10.0])
    now = regular(rule)
    assert rule.overdue(0)
    rule.frame_begun(now)
    assert not rule.overdue(0)


def test_a_part_begins_if_it_will_be_done_before_the_next_frame():
    rule = TurnRule()
    now = regular(rule)  # the next frame is due at 600
    learn(rule, [30.0, 30.0])
    assert rule.wait(0, now + GRACE_MS) == 0 and rule.wait(0, 570) == 0
    assert rule.wait(0, 571) == 650 - 571, "half a period after the frame was due"
    assert rule.wait(0, 650) == 0, "the source is late"


def test_the_shortest_period_counts():
    rule = TurnRule()
    for begun in (0, 100, 160, 260, 360):
        rule.frame_begun(begun)
        rule.frame_ended(begun + 10)
    learn(rule, [30.0])
    assert rule.wait(0, 390) == 0 and rule.wait(0, 391) > 0, "due at 360 + 60"


def test_a_cost_that_rose_is_believed_at_once_and_one_that_fell_by_half():
    rule = TurnRule()
    regular(rule)
    for cost, fits in ((20, 580), (50, 550), (20, 565), (20, 572.5)):
        learn(rule, [float(cost)])
        assert rule.wait(0, fits) == 0 and rule.wait(0, fits + 1) > 0


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=40))
def test_under_full_load_a_pass_lands_in_time_and_a_frame_waits_for_its_share(costs):
    """Frames without a pause: parts run only as they are overdue."""
    rule, now = TurnRule(), 0.0
    learn(rule, costs)
    part, frames = 0, 0
    while part < len(costs):
        rule.frame_begun(now)
        assert not rule.overdue(part)
        now += 40
        rule.frame_ended(now)
        frames += 1
        waited = []
        while part < len(costs) and rule.overdue(part):
            rule.part_ran(part, costs[part])
            waited.append(costs[part])
            now += costs[part]
            part += 1
        # The last of them goes beyond the share.
        assert sum(waited[:-1]) <= sum(costs) / LANDS_WITHIN + 1e-6
    assert frames <= LANDS_WITHIN


def test_under_full_load_steps_of_carrying_that_never_ran_go_one_a_frame():
    rule, part, ran = TurnRule(), 0, []
    learn(rule, [10.0] * 4)
    for frame in range(30):
        rule.frame_begun(40.0 * frame)
        rule.frame_ended(40.0 * frame + 40)
        count = part
        while part < 7 and rule.overdue(part):
            rule.part_ran(part, 10.0)
            part += 1
        ran.append(part - count)
    assert sum(ran[:LANDS_WITHIN]) >= 4 and part == 7 and max(ran) == 1


@pytest.fixture
def team():
    with_threads = Team(WallClock(), lambda parts: parts, 1)
    yield with_threads
    with_threads.close()


def held_parts(count, started, go):
    """Parts that say when they run and wait to be let go."""
    for _ in range(count):
        started.release()
        assert go.acquire(timeout=PATIENCE_S)
        yield
    return "F_h"


def landed(team):
    """The pass, as soon as it has landed."""
    waited = threading.Event()
    for _ in range(PATIENCE_S * 100):
        if (outcome := team.poll(0)) is not None:
            return outcome
        waited.wait(0.01)
    pytest.fail("the pass never landed")


def test_a_frame_waits_for_the_part_that_runs_and_goes_before_the_next_one(team):
    started, go, order = threading.Semaphore(0), threading.Semaphore(0), []

    def parts():
        for part in range(3):
            started.release()
            assert go.acquire(timeout=PATIENCE_S)
            order.append(part)
            yield
        return "F_h"

    job = Job(1, 0, parts())
    team.submit(job)
    assert started.acquire(timeout=PATIENCE_S)
    frame = threading.Thread(target=lambda: team.run(order.append, "S_l", begins=True))
    frame.start()
    while not team._calls:
        pass
    go.release()
    frame.join(PATIENCE_S)
    assert order == [0, "S_l"], "and no part while the frame is under way"
    go.release(2)
    team.run(order.append, "labels", ends=True)
    outcome = landed(team)
    assert order == [0, "S_l", "labels", 1, 2]
    assert (outcome.job, outcome.high, outcome.error) == (job, "F_h", None)
    assert team.poll(0) is None


def test_an_overdue_part_goes_before_a_frame_that_waits(team):
    held, go, order = threading.Semaphore(0), threading.Semaphore(0), []

    def parts():
        for part in range(2):
            order.append(part)
            yield

    def hold():
        held.release()
        assert go.acquire(timeout=PATIENCE_S)

    team.run_higher(parts())
    order.clear()
    frame = threading.Thread(target=lambda: team.run(hold, begins=True, ends=True))
    frame.start()
    assert held.acquire(timeout=PATIENCE_S)
    team.submit(Job(1, 0, parts()))
    following = threading.Thread(target=lambda: team.run(order.append, "next frame", begins=True))
    following.start()
    while not team._calls:
        pass
    go.release()
    frame.join(PATIENCE_S)
    following.join(PATIENCE_S)
    assert order[0] == 0 and "next frame" in order


def test_a_part_that_raises_is_the_outcome_and_the_team_goes_on(team):
    def parts():
        yield
        raise MemoryError("no memory for F_h")

    team.submit(Job(1, 0, parts()))
    assert isinstance(landed(team).error, MemoryError)
    assert team.run(lambda: 1) == 1


def test_a_frame_that_raises_has_ended(team):
    def broken():
        raise ArithmeticError("S_l broke")

    with pytest.raises(ArithmeticError, match="S_l broke"):
        team.run(broken, begins=True)
    team.submit(Job(1, 0, iter_of("F_h")))
    assert landed(team).high == "F_h"


def iter_of(value):
    yield
    return value


def test_a_busy_team_refuses_a_pass_and_a_closed_one_everything(team):
    started, go = threading.Semaphore(0), threading.Semaphore(0)
    team.submit(Job(1, 0, held_parts(1, started, go)))
    with pytest.raises(RuntimeError, match="one with a job in flight"):
        team.submit(Job(2, 1, iter_of("F_h")))
    assert started.acquire(timeout=PATIENCE_S)
    go.release()
    team.close()
    team.close()
    assert not team._thread.is_alive() and team.poll(0) is None, "what was in flight is lost"
    with pytest.raises(RuntimeError, match="a closed one"):
        team.submit(Job(2, 1, iter_of("F_h")))
    with pytest.raises(RuntimeError, match="an open team, got a closed one"):
        team.run(lambda: 1)


def test_a_pass_forgotten_while_a_part_runs_ends_behind_it_and_the_next_one_lands(team):
    started, go = threading.Semaphore(0), threading.Semaphore(0)
    team.submit(Job(1, 0, held_parts(2, started, go)))
    assert started.acquire(timeout=PATIENCE_S)
    team.forget()
    team.submit(Job(2, 1, iter_of("F_h")))
    go.release(2)
    assert landed(team).job.launch == 2
    assert team.poll(0) is None and not started.acquire(blocking=False)


def test_a_pass_that_has_landed_is_forgotten_too(team):
    done = threading.Event()

    def parts():
        yield
        done.set()
        return "F_h"

    team.submit(Job(1, 0, parts()))
    assert done.wait(PATIENCE_S)
    team.run(lambda: None)
    team.forget()
    assert team.poll(0) is None


def test_a_restart_frees_the_team_and_the_pass_it_met_never_lands():
    """The clock stands still: no part begins but where the test says so."""

    class Network:
        def lower(self, frame):
            return frame

        def higher_parts(self, low):
            yield
            return low

        def classify(self, high):
            return high

        def hold(self, key):
            pass

        def propagate(self, key, low):
            return (low, key.high), key.high

        measure = None

    network, clock = Network(), VirtualClock()
    team = Team(clock, network.higher_parts, 1)
    with Engine(Schedule(Every(2), age_bound=None), TeamStages(network, team), team, clock) as engine:
        assert [engine.step(index).launched for index in range(3)] == [False, False, True]
        engine.restart()
        results = [engine.step(index) for index in range(3, 6)]
        assert [result.startup for result in results] == [True, False, False]
        assert results[2].launched and not any(result.error or result.degraded for result in results)
        clock.advance(1000)
        outcome = landed(team)
        assert (outcome.job.index, outcome.high, team.poll(0)) == (5, 5, None)
        assert (engine.state.counts.failures, engine.state.counts.discarded) == (0, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_team_whose_thread_breaks_down_leaves_nobody_waiting(team, monkeypatch):
    def broken(now):
        raise ArithmeticError("the rule broke")

    def ask():
        with pytest.raises(RuntimeError, match="broke down; make another engine") as raised:
            team.run(lambda: "labels", begins=True)
        told.append(raised.value)

    told = []
    monkeypatch.setattr(team.rule, "frame_begun", broken)
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    assert told
    with pytest.raises(RuntimeError, match="make another engine"):
        team.run(lambda: 1)


def test_closing_does_not_wait_for_a_part_that_hangs():
    team, started, go = Team(WallClock(), lambda parts: parts, 1), threading.Semaphore(0), threading.Semaphore(0)
    team.submit(Job(1, 0, held_parts(1, started, go)))
    assert started.acquire(timeout=PATIENCE_S)
    with pytest.warns(RuntimeWarning, match="still running after 0 s"):
        team.close(timeout_s=0)
    go.release()


def test_closing_loses_the_pass_and_nobody_who_waits_behind_an_overdue_part(monkeypatch):
    team, started, go = Team(WallClock(), lambda parts: parts, 1), threading.Semaphore(0), threading.Semaphore(0)
    monkeypatch.setattr(team.rule, "overdue", lambda part: True)
    team.submit(Job(1, 0, held_parts(2, started, go)))
    assert started.acquire(timeout=PATIENCE_S)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(team.run(lambda: "labels")), daemon=True)
    waiting.start()
    while not team._calls:
        waiting.join(0.001)
    with pytest.warns(RuntimeWarning, match="still running after 0 s"):
        team.close(timeout_s=0)
    go.release()
    waiting.join(PATIENCE_S)
    assert answers == ["labels"] and not started.acquire(blocking=False)


def test_the_team_has_the_threads_and_the_caller_keeps_its_count():
    before = torch.get_num_threads()
    for cores in (1, 3, None):
        team = Team(WallClock(), lambda parts: parts, cores)
        assert team.run(torch.get_num_threads) == (cores or cores_at_hand())
        team.close()
    assert torch.get_num_threads() == before
    for cores in (0, 2.0, "2"):
        with pytest.raises(ValueError, match=f"Team: expected a whole number of at least 1 core, got {cores!r}; leave"):
            Team(WallClock(), lambda parts: parts, cores)


@pytest.fixture(scope="module")
def frames():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(12)]


def test_s_h_in_parts_is_s_h(tiny_network, frames):
    stages = NetworkStages(tiny_network)
    low = stages.lower(frames[0])
    parts, count = stages.higher_parts(low), 0
    while True:
        try:
            next(parts)
            count += 1
        except StopIteration as last:
            high = last.value
            break
    assert count == len(stages.network.higher_chain()) and not high.features.requires_grad
    assert torch.equal(high.features, stages.higher(low).features) and high.size == (24, 32)


@pytest.mark.parametrize("cores", [None, 1, CoreSplit(1, 1)])
def test_features_that_land_are_those_of_the_frame_they_are_said_to_be_of(tiny_network, frames, cores):
    stages = NetworkStages(tiny_network)
    expected = [stages.higher(stages.lower(frame)).features for frame in frames]
    landed = []
    with cpu_engine(Schedule(Every(3)), stages, cores=cores) as engine:
        for index in range(1000):
            # Frames without a pause.
            result = engine.step(frames[index % len(frames)])
            if result.landed is not None:
                landed.append(result.landed)
            key = engine._key
            if key.base is None and key.index == key.source:
                torch.testing.assert_close(key.high.features, expected[key.index % len(frames)])
            if len(landed) == 4:
                break
    assert len(landed) == 4 and engine.state.counts.failures == 0


def test_start_up_tells_what_the_parts_cost(tiny_network, frames):
    stages = NetworkStages(tiny_network)
    with cpu_engine(Schedule(Every(5)), stages) as engine:
        engine.step(frames[0])
        costs = engine._worker.rule._costs
        assert len(costs) == len(stages.network.higher_chain()) + 1 and min(costs) > 0


def test_a_blocking_engine_starts_no_thread_and_leaves_the_thread_count_alone(tiny_network, frames):
    before, threads = torch.get_num_threads(), threading.active_count()
    with cpu_engine(Schedule(Every(5), mode="blocking"), NetworkStages(tiny_network)) as engine:
        assert engine.step(frames[0]).startup
        assert (torch.get_num_threads(), threading.active_count()) == (before, threads)
