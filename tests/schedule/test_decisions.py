"""The table of decisions, row by row, on the pure state machine."""

import pytest

from lowlat.schedule import Adaptive, Every, PerFrame, Signal
from lowlat.schedule.events import (
    Classify,
    Decide,
    Degrade,
    Discard,
    Emit,
    Emitted,
    Failed,
    FrameBegun,
    GiveUp,
    Landed,
    Launch,
    Measured,
    Promote,
    Propagate,
    Rebase,
    ReplaceHigh,
    RunHigher,
    RunLower,
    StoreKey,
)

KEY, CUT = 0.3, 0.9
ADAPTIVE = Adaptive(0.1, cut=0.5)


def kinds(actions):
    return [type(action) for action in actions]


def emit(actions):
    return next(action for action in actions if isinstance(action, Emit))


def test_first_frame_is_a_blocking_full_pass_reported_as_start_up(stream):
    actions = stream(ADAPTIVE).frame(0)
    assert kinds(actions) == [RunLower, RunHigher, StoreKey, Classify, Emit]
    assert emit(actions) == Emit(0, key=True, age=0, degraded=False, startup=True)


def test_a_plain_frame_is_propagated_from_the_cached_key_frame(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    actions = s.frame(1, value=0.05)
    assert actions == [
        RunLower(1),
        Decide(1, Signal.DEVIATION),
        Propagate(1),
        Emit(1, key=False, age=1, degraded=False, startup=False),
    ]


def test_key_frame_while_idle_is_emitted_then_promoted_then_launched(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    actions = s.frame(1, value=KEY)
    assert kinds(actions) == [RunLower, Decide, Propagate, Emit, Promote, Launch]
    assert emit(actions) == Emit(1, key=True, age=1, degraded=False, startup=False)
    assert (s.state.key, s.state.source) == (1, 0)


def test_key_frame_in_blocking_mode_waits_for_its_own_features(stream):
    s = stream(ADAPTIVE, mode="blocking")
    s.frame(0)
    actions = s.frame(1, value=KEY)
    assert kinds(actions) == [RunLower, Decide, RunHigher, StoreKey, Classify, Emit]
    assert emit(actions) == Emit(1, key=True, age=0, degraded=False, startup=False)


def test_a_frame_far_from_its_base_is_the_base_of_later_ones(stream):
    s = stream(ADAPTIVE)
    rebased = [actions[-1].index for actions in s.frames(range(8)) if kinds(actions)[-1] is Rebase]
    assert rebased == [3, 6]
    assert (s.state.key, s.state.base, s.state.source) == (0, 6, 0)
    s.frame(8, value=KEY)
    assert (s.state.key, s.state.base) == (8, 8)


@pytest.mark.parametrize("steps, base", [(2, 7), (1, 4), (0, 1)])
def test_what_lands_is_the_base_it_has_been_carried_to(stream, steps, base):
    """All of the bases that came meanwhile, or some: one may have come when the pass was through."""
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    rebased = [actions[-1].index for actions in s.frames(range(2, 9)) if kinds(actions)[-1] is Rebase]
    assert rebased == [4, 7] and s.state.flight.path == (4, 7)
    assert s.land(steps) == [ReplaceHigh(1, s.state.counts.launches - 1, steps)]
    assert (s.state.key, s.state.source, s.state.base, s.state.flight) == (1, 1, base, None)


def test_an_s_h_that_hangs_leaves_frames_to_the_last_of_so_many_bases(stream):
    s = stream(ADAPTIVE, steps=2)
    s.frame(0)
    s.frame(1, value=KEY)
    s.frames(range(2, 100))
    assert s.state.flight.path == (4, 7) and s.state.base == 7


def test_features_carried_further_than_there_are_bases_are_refused(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    s.frame(4)
    with pytest.raises(ValueError, match="expected 0 to 1 steps of pass 1, got 2"):
        s.land(2)


def test_nothing_is_rebased_while_s_h_is_under_way_where_that_is_asked_for(stream):
    s = stream(ADAPTIVE, steps=0)
    s.frame(0)
    s.frame(1, value=KEY)
    assert not any(Rebase in kinds(actions) for actions in s.frames(range(2, 7)))
    s.land()
    assert s.state.base == 1
    assert kinds(s.frame(7)) == [RunLower, Decide, Propagate, Emit, Rebase]
    with pytest.raises(ValueError, match="steps of at least 0, got -1"):
        stream(ADAPTIVE, steps=-1)


def test_a_deferred_decision_comes_before_the_rebase(stream):
    s = stream(ADAPTIVE, decision="deferred", rebase=2)
    s.frames(range(2))
    assert kinds(s.frame(2)) == [RunLower, Propagate, Emit, Decide, Rebase]
    assert kinds(s.frame(4, value=KEY)) == [RunLower, Propagate, Emit, Decide, Promote, Launch]


def test_without_rebasing_frames_are_propagated_from_key_frames_alone(stream):
    s = stream(ADAPTIVE, rebase=None, age_bound=None)
    assert not any(Rebase in kinds(actions) for actions in s.frames(range(30)))
    with pytest.raises(ValueError, match="rebase of at least 1 frame, got 0; use None"):
        stream(ADAPTIVE, rebase=0)


def test_a_policy_without_a_signal_measures_nothing(stream):
    s = stream(Every(2))
    assert not any(Decide in kinds(actions) for actions in s.frames(range(6)))


def test_landing_replaces_only_the_features_of_its_own_key_frame(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    s.frame(2)
    before = s.state
    assert s.land() == [ReplaceHigh(1, before.flight.launch)]
    assert (s.state.key, s.state.source, s.state.flight) == (1, 1, None)


def test_landing_of_another_key_frame_is_discarded(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    assert s.feed(Landed(77)) == [Discard(77)]
    assert s.feed(Failed(77)) == [Discard(77)]
    assert (s.state.source, s.state.flight.index, s.state.counts.discarded) == (0, 1, 2)


def test_landing_is_refused_in_the_middle_of_a_frame(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    s.feed(FrameBegun(2))
    with pytest.raises(ValueError, match="waiting for Measured"):
        s.land()


def test_age_of_a_temporary_key_frame_goes_on_counting_from_the_true_source(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    ages = [emit(s.frame(index, value=KEY if index == 3 else 0.0)).age for index in range(1, 6)]
    s.land()
    ages += [emit(s.frame(index)).age for index in range(6, 8)]
    assert ages == [1, 2, 3, 4, 5, 3, 4]


def test_key_frame_while_busy_is_coalesced_into_a_flag(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    assert launched(s.frame(1, value=KEY)) == 1
    for index in (2, 3):
        actions = s.frame(index, value=KEY)
        assert kinds(actions) == [RunLower, Decide, Propagate, Emit]
        assert not emit(actions).key
    assert s.state.key == 1
    assert s.state.counts.coalesced == 2 and s.state.counts.launches == 2


def test_on_landing_a_coalesced_key_frame_is_tested_again_and_launched_on_the_current_frame(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    s.frame(2, value=KEY)
    s.land()
    assert launched(s.frame(3, value=KEY)) == 3


def test_on_landing_a_coalesced_key_frame_that_is_no_longer_one_is_dropped(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    s.frame(2, value=KEY)
    s.land()
    assert launched(s.frame(3, value=0.0)) is None


@pytest.mark.parametrize("decision", ["critical", "deferred"])
def test_age_bound_forces_a_launch_after_ten_frames(stream, launched, decision):
    s = stream(ADAPTIVE, decision=decision)
    s.frame(0)
    assert [launched(s.frame(index)) for index in range(1, 11)] == [None] * 9 + [10]
    assert s.state.counts.forced == 1


def test_age_bound_holds_in_blocking_mode(stream):
    s = stream(ADAPTIVE, mode="blocking")
    ages = [emit(actions).age for actions in s.frames(range(25))]
    assert ages == [*range(10), *range(10), *range(5)]


def test_age_bound_reached_while_busy_forces_a_launch_as_soon_as_s_h_is_free(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    assert launched(s.frame(1, value=KEY)) == 1
    assert [launched(s.frame(index)) for index in range(2, 15)] == [None] * 13
    s.land()
    assert launched(s.frame(15)) == 15, "the landed features are 14 frames old themselves"


def test_age_bound_can_be_left_out(stream, launched):
    s = stream(ADAPTIVE, age_bound=None)
    assert not any(map(launched, s.frames(range(40))))


def test_frames_dropped_before_the_engine_count_in_ages_and_intervals(stream, launched):
    s = stream(Every(5))
    s.frame(0)
    actions = s.frame(7)
    assert emit(actions).age == 7 and launched(actions) == 7


def test_scene_cut_is_on_time_degraded_and_launched_at_once(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    actions = s.frame(1, value=CUT)
    assert kinds(actions) == [RunLower, Decide, Propagate, Emit, Promote, Launch]
    assert emit(actions).degraded
    assert emit(s.frame(2)).degraded
    s.land()
    assert not emit(s.frame(3)).degraded


def test_scene_cut_while_busy_is_launched_as_soon_as_s_h_lands_without_another_test(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    assert emit(s.frame(2, value=CUT)).degraded
    s.land()
    actions = s.frame(3, value=0.0)
    assert launched(actions) == 3 and emit(actions).degraded, "the landed features lie before the cut"
    s.land()
    assert not emit(s.frame(4)).degraded


def test_scene_cut_with_a_deferred_decision_is_known_after_the_labels(stream):
    s = stream(ADAPTIVE, decision="deferred")
    s.frame(0)
    actions = s.frame(1, value=CUT)
    assert kinds(actions) == [RunLower, Propagate, Emit, Decide, Degrade, Promote, Launch]
    assert not emit(actions).degraded
    assert emit(s.frame(2)).degraded


def test_scene_cut_can_block(stream):
    s = stream(ADAPTIVE, on_cut="block")
    s.frame(0)
    assert Launch in kinds(s.frame(1, value=KEY))
    s.land()
    actions = s.frame(2, value=CUT)
    assert kinds(actions) == [RunLower, Decide, RunHigher, StoreKey, Classify, Emit]
    assert not emit(actions).degraded


def test_scene_cut_that_would_block_while_busy_stays_on_time_until_the_landing(stream):
    s = stream(ADAPTIVE, on_cut="block")
    s.frame(0)
    s.frame(1, value=KEY)
    actions = s.frame(2, value=CUT)
    assert RunHigher not in kinds(actions) and emit(actions).degraded
    s.land()
    actions = s.frame(3, value=0.0)
    assert RunHigher in kinds(actions) and not emit(actions).degraded


def test_failure_keeps_the_old_cache_is_counted_and_retried_on_the_current_frame(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    s.frame(2)
    assert s.fail() == []
    assert (s.state.key, s.state.source, s.state.counts.failures) == (1, 0, 1)
    actions = s.frame(3)
    assert launched(actions) == 3 and emit(actions).degraded
    s.land()
    assert not emit(s.frame(4)).degraded


def test_failures_in_a_row_are_retried_at_growing_distances(stream, launched):
    s = stream(ADAPTIVE)
    s.frame(0)
    tries = []
    for index in range(1, 40):
        if launched(s.frame(index, value=KEY)) is not None:
            tries.append(index)
            s.fail()
    assert tries == [1, 2, 4, 8, 16, 24, 32]


def test_failure_in_blocking_mode_falls_back_to_propagation_and_retries_on_the_next_frame(stream):
    s = stream(Every(3), mode="blocking")
    s.frames(range(3))
    actions = s.frame(3, fails=True)
    assert kinds(actions) == [RunLower, RunHigher, Propagate, Emit, Rebase]
    assert emit(actions) == Emit(3, key=False, age=3, degraded=True, startup=False)
    assert emit(s.frame(4)) == Emit(4, key=True, age=0, degraded=False, startup=False)


def test_failure_on_the_first_frame_gives_that_frame_up_and_starts_up_again(stream):
    s = stream(ADAPTIVE)
    assert kinds(s.frame(0, fails=True)) == [RunLower, RunHigher, GiveUp]
    assert emit(s.frame(1)).startup


def test_an_s_h_that_never_lands_ends_in_degraded_frames(stream):
    s = stream(ADAPTIVE)
    s.frame(0)
    s.frame(1, value=KEY)
    degraded = [emit(s.frame(index)).degraded for index in range(2, 30)]
    assert degraded == [False] * 19 + [True] * 9, "from twice the age bound on"


def test_deferred_decision_comes_after_the_labels(stream):
    s = stream(ADAPTIVE, decision="deferred")
    s.frame(0)
    assert kinds(s.frame(1, value=KEY)) == [RunLower, Propagate, Emit, Decide, Promote, Launch]
    assert kinds(s.frame(2, value=0.0)) == [RunLower, Propagate, Emit, Decide]


def test_per_frame_in_low_latency_mode_keeps_s_h_busy_on_the_freshest_frame(stream, launched):
    s = stream(PerFrame())
    s.frame(0)
    launches = []
    for index in range(1, 10):
        launches.append(launched(s.frame(index)))
        if index % 3 == 0:
            s.land()
    assert launches == [1, None, None, 4, None, None, 7, None, None]


@pytest.mark.parametrize("event", [FrameBegun(0), FrameBegun(-1), Measured(1, 0.0), Emitted(0)])
def test_events_out_of_order_are_refused(stream, event):
    s = stream(ADAPTIVE)
    s.frame(0)
    before = s.state
    with pytest.raises(ValueError, match="Schedule.advance: expected an event that fits 'between frames' at frame 0"):
        s.feed(event)
    assert s.state is before
