"""The engine over fakes: every frame answered, features where they belong, latencies that end at the
labels."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowlat.runtime import Captured, Engine
from lowlat.schedule import Adaptive, Every, PerFrame, Phase, Schedule

KEY, CUT = 0.3, 0.9
ADAPTIVE = Adaptive(0.1, cut=0.5)


def test_first_frame_is_start_up_with_its_own_features(build):
    engine = build(Schedule(ADAPTIVE))
    result = engine.step(0)
    assert (result.labels, result.startup, result.key, result.age) == (("classified", 0), True, True, 0)
    assert result.stages_ms == {"lower": 10, "higher": 100, "classify": 1}
    assert result.latency_ms == 111


def test_latency_is_split_by_stage_and_the_critical_decision_is_part_of_it(build):
    engine = build(Schedule(ADAPTIVE))
    engine.step(0)
    result = engine.step(1)
    assert result.stages_ms == {"lower": 10, "select": 3, "propagate": 5}
    assert (result.latency_ms, result.deferred_ms, result.value) == (18, {}, 0.0)


def test_a_deferred_decision_is_no_part_of_the_latency(build):
    engine = build(Schedule(ADAPTIVE, decision="deferred"), {1: KEY})
    engine.step(0)
    result = engine.step(1)
    assert (result.latency_ms, result.deferred_ms, result.key, result.launched) == (
        15,
        {"select": 3},
        True,
        True,
    )


def test_labels_are_handed_out_before_the_deferred_decision(build):
    engine = build(Schedule(ADAPTIVE, decision="deferred"), {1: KEY})
    results = engine.run(range(3))
    next(results)
    result = next(results)
    assert result.labels == ("propagated", 1, 0, 0)
    assert not result.settled and not result.key and result.value is None
    assert ("measure", 1) not in engine.stages.calls
    next(results)
    assert result.settled and result.key and result.value == KEY
    assert engine.stages.calls.index(("measure", 1)) < engine.stages.calls.index(("lower", 2))


def test_an_iteration_left_early_is_settled_by_the_next_frame(build):
    engine = build(Schedule(ADAPTIVE), {1: KEY})
    for result in engine.run(range(9)):
        if result.index == 1:
            break
    assert engine.worker.job is None
    engine.step(2)
    assert result.settled and result.launched
    assert engine._key.index == 1


def test_landed_features_are_used_from_the_first_frame_that_starts_after_them(build):
    engine = build(Schedule(ADAPTIVE), {1: KEY}, delays=[3])
    results = [engine.step(index) for index in range(6)]
    assert [result.labels for result in results[1:]] == [
        ("propagated", 1, 0, 0),
        ("propagated", 2, 1, 0),
        ("propagated", 3, 1, 0),
        ("propagated", 4, 1, 1),
        ("propagated", 5, 1, 1),
    ]
    assert [result.landed for result in results] == [None, None, None, None, 1, None]
    assert [result.age for result in results] == [0, 1, 2, 3, 3, 4]


def test_spans_tell_each_stage_on_its_track(build):
    engine = build(Schedule(ADAPTIVE), {1: KEY}, delays=[2])
    results = [engine.step(index) for index in range(4)]
    spans = {(span.track, span.stage, span.index): (span.start_ms, span.end_ms) for r in results for span in r.spans}
    assert spans["S_l", "lower", 1] == (111, 121)
    assert spans["propagation", "select", 1] == (121, 124)
    assert spans["propagation", "propagate", 1] == (124, 129)
    assert spans["S_h", "higher", 0] == (10, 110)
    assert spans["S_h", "higher", 1] == (129, 147), "the background pass, from its launch to the frame it landed with"
    assert any(span.stage == "higher" for span in results[3].spans)


def test_time_spent_waiting_for_the_engine_is_part_of_the_latency(build):
    engine = build(Schedule(Every(5)))
    engine.step(0)
    result = engine.step(1, index=4, available_ms=100.0)
    assert (result.index, result.age, result.wait_ms, result.latency_ms) == (4, 4, 11, 26)


def test_captured_frames_bring_their_own_index_and_time(build):
    engine = build(Schedule(Every(5)))
    frames = [Captured(0, 0.0, 0), Captured(3, 50.0, 3)]
    first, second = engine.run(frames)
    assert (second.index, second.available_ms, second.labels[1]) == (3, 50.0, 3)


def test_a_failure_of_background_s_h_is_survived_reported_and_retried(build):
    engine = build(Schedule(ADAPTIVE), {1: KEY}, delays=[2, 2], failing=[1])
    results = [engine.step(index) for index in range(7)]
    assert isinstance(results[3].error, ArithmeticError)
    assert results[3].labels == ("propagated", 3, 1, 0), "the old cache"
    assert [result.degraded for result in results] == [False, False, False, True, True, False, False]
    assert (results[3].launched, results[5].landed) == (True, 3)
    assert engine.state.counts.failures == 1


def test_a_worker_that_refuses_a_job_counts_as_a_failure(build):
    engine = build(Schedule(ADAPTIVE), {1: KEY})

    def refuse(job):
        raise RuntimeError("no thread to be had")

    engine.step(0)
    engine.worker.submit = refuse
    result = engine.step(1)
    assert isinstance(result.error, RuntimeError) and not result.launched
    assert engine.step(2).labels == ("propagated", 2, 1, 0)


def test_a_failure_of_blocking_s_h_falls_back_to_the_old_cache(build):
    engine = build(Schedule(Every(2), mode="blocking"))
    engine.stages.broken.add(("higher", 2))
    results = [engine.step(index) for index in range(4)]
    assert isinstance(results[2].error, ArithmeticError)
    assert [result.labels[0] for result in results] == [
        "classified",
        "propagated",
        "propagated",
        "classified",
    ]
    assert [result.degraded for result in results] == [False, False, True, False]


def test_a_failure_on_the_first_frame_is_raised_and_the_next_frame_starts_up(build):
    engine = build(Schedule(ADAPTIVE))
    engine.stages.broken.add(("higher", 0))
    with pytest.raises(RuntimeError, match="higher broke.*the next frame starts up again") as raised:
        engine.step(0)
    assert isinstance(raised.value.__cause__, ArithmeticError)
    assert engine.step(1).startup


@pytest.mark.parametrize("stage", ["lower", "propagate", "measure", "classify"])
def test_a_fast_track_that_raises_loses_one_frame_and_not_the_stream(build, stage):
    engine = build(Schedule(ADAPTIVE, on_cut="block"), {2: KEY, 4: CUT}, delays=[1])
    engine.step(0)
    engine.stages.broken.add((stage, 2 if stage != "classify" else 4))
    lost = 0
    for index in range(1, 9):
        try:
            engine.step(index, index=index)
        except ArithmeticError:
            lost += 1
    assert lost == 1
    assert engine.state.phase is Phase.BETWEEN
    assert engine.state.counts.frames == 8


def test_a_deferred_decision_that_raises_costs_the_decision_only(build):
    engine = build(Schedule(ADAPTIVE, decision="deferred"), {3: KEY})
    engine.step(0)
    engine.stages.broken.add(("measure", 1))
    results = engine.run([1, 2])
    assert next(results).labels == ("propagated", 1, 0, 0)
    with pytest.raises(ArithmeticError):
        next(results)
    assert engine.step(2).settled
    assert engine.step(3).launched


@pytest.mark.parametrize("where", ["while the frame is kept", "before S_h is launched", "behind its launch"])
def test_ctrl_c_between_promotion_and_launch_loses_no_later_pass(build, monkeypatch, where):
    """Otherwise a pass that no worker runs would keep S_h from ever being launched again."""
    engine = build(Schedule(Every(3), age_bound=10), delays=[2] * 20)
    submit, hold = engine.worker.submit, engine._hold

    def interrupted(*arguments):
        monkeypatch.undo()
        if where == "behind its launch":
            submit(*arguments)
        raise KeyboardInterrupt

    results = [engine.step(index) for index in range(3)]
    if where == "while the frame is kept":
        monkeypatch.setattr(engine, "_hold", interrupted)
    else:
        monkeypatch.setattr(engine.worker, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.step(3)
    results = [engine.step(index) for index in range(4, 40)]
    assert results[0].startup == (where == "while the frame is kept") and hold == engine._hold
    assert max(result.age for result in results) <= 5 and sum(result.launched for result in results) > 9


def test_ctrl_c_within_a_landing_starts_up_again(build, monkeypatch):
    engine = build(Schedule(Every(3)), delays=[2] * 20)
    for index in range(5):
        engine.step(index)

    def interrupted(key):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_hold", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.step(5)
    results = [engine.step(index) for index in range(5, 20)]
    assert results[0].startup and all(result.age <= 5 and result.error is None for result in results)


def test_a_blocking_engine_needs_no_worker_and_a_low_latency_engine_does(build):
    stages = build(Schedule(ADAPTIVE)).stages
    Engine(Schedule(PerFrame(), mode="blocking"), stages)
    with pytest.raises(ValueError, match="or mode='blocking'"):
        Engine(Schedule(ADAPTIVE), stages)


def test_a_closed_engine_has_closed_its_worker_and_takes_no_frame(build):
    with build(Schedule(ADAPTIVE)) as engine:
        engine.step(0)
    engine.close()
    assert engine.worker.closed == 2
    with pytest.raises(RuntimeError, match="make another for this video"):
        engine.step(1)


def test_engines_share_a_schedule_without_sharing_a_stream(build):
    schedule = Schedule(Every(2))
    one, two = build(schedule), build(schedule)
    one.step(0)
    one.step(1)
    assert two.step(0).startup
    assert one.state.counts.frames == 2


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=st.sampled_from([PerFrame(), Every(3), ADAPTIVE]),
    decision=st.sampled_from(["critical", "deferred"]),
    values=st.dictionaries(st.integers(1, 60), st.sampled_from([KEY, CUT, 0.1])),
    delays=st.lists(st.integers(1, 15), max_size=12),
    failing=st.sets(st.integers(1, 12), max_size=5),
    steps=st.lists(st.integers(1, 3), min_size=1, max_size=30),
)
def test_whatever_s_h_does_every_frame_is_answered_on_time(build, policy, decision, values, delays, failing, steps):
    engine = build(Schedule(policy, decision=decision), values, delays=delays, failing=failing)
    index, sources = 0, {0}
    assert engine.step(0).startup
    critical = 18 if policy.signal and decision == "critical" else 15
    for step in steps:
        index += step
        result = engine.step(index, index=index)
        kind, labelled, key, source = result.labels
        assert (kind, labelled) == ("propagated", index)
        assert source <= key < index
        if result.landed is not None:
            sources.add(result.landed)
        assert source in sources, "features that never landed"
        assert result.age == index - source
        assert result.latency_ms == critical, "S_h never costs the fast track anything"
        waiting = index < engine.state.retry_from
        assert result.age < 10 or engine.worker.job is not None or waiting or result.error
    assert engine.state.counts.frames == len(steps) + 1
