"""How many videos fit: arithmetic on costs, and what is known of costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowlat.hub.capacity import MOST, SPARE, Load, bound_ms, capacity, spacing
from lowlat.hub.costs import Costs
from lowlat.hub.policy import spaced
from lowlat.schedule import Adaptive, Every, Schedule, Signal

ms = st.floats(0.1, 200)
load = st.builds(Load, st.floats(1, 60), ms, ms, ms)
loads = st.lists(load, max_size=6)


def test_a_frame_waits_for_one_of_every_video_and_the_longest_part():
    assert bound_ms([Load(10, 20, 100, 7), Load(5, 30, 50, 9)]) == 59
    assert bound_ms([]) == 0


@given(loads, load, st.integers(1, 20))
def test_as_many_fit_as_are_let_in_and_not_one_more(taken, more, age_bound):
    count = capacity(taken, more, age_bound)
    if count:
        assert spacing([*taken, *[more] * count], age_bound) == 1
    assert count == MOST or spacing([*taken, *[more] * (count + 1)], age_bound) != 1


@given(loads, st.integers(1, 20))
def test_the_spacing_leaves_time_and_no_smaller_one_does(taken, age_bound):
    least = spacing(taken, age_bound)
    if least is None:
        late = any(bound_ms(taken) > 1e3 / load.fps for load in taken)
        assert late or sum(load.fps * load.fast_ms for load in taken) >= 1e3 * (1 - SPARE)
        return

    def busy(interval):
        return sum(load.fps * (load.fast_ms + load.pass_ms / interval) for load in taken) / 1e3

    assert busy(max(least, age_bound)) <= 1 - SPARE + 1e-9
    assert least == 1 or busy(least - 1) > 1 - SPARE - 1e-9 and least > age_bound


def test_costs_are_those_that_most_frames_stay_within():
    costs = Costs()
    assert costs.fast_ms("small") is None and costs.pass_ms("small") == 0
    for index in range(100):
        costs.frame_took("small", 50 if index % 20 == 0 else 10)
    assert costs.fast_ms("small") == 10
    assert costs.fast_ms("unknown") == 10, "what is not known costs what the dearest known one does"
    for part, cost in enumerate((3, 5, 1)):
        costs.part_took("small", 1, part, cost)
    assert (costs.pass_ms("small"), costs.longest_ms("small"), costs.pass_ms("unknown")) == (9, 5, 9)
    assert costs.progress("small", 1, 1) == (3, 5, 9, 5)
    assert costs.progress("small", 2, 1) == (6, 10, 18, 10), "a batch that never ran costs as much as single passes"
    costs.part_took("small", 1, 1, 9)
    costs.part_took("small", 1, 0, 1)
    assert costs.progress("small", 1, 0) == (0, 2, 12, 9), "one that rose is believed at once, one that fell by half"
    assert costs.progress("small", 1, 7).next_ms == 0


def test_a_spaced_policy_asks_for_nothing_early_but_a_cut():
    schedule = spaced(Schedule(Adaptive(0.1, cut=0.5), age_bound=10), 16)
    policy = schedule.policy
    assert (policy.signal, policy.cut, schedule.age_bound) == (Signal.DEVIATION, 0.5, 16)
    assert [policy.is_key(distance, 0.3) for distance in (1, 15, 16)] == [False, False, True]
    assert not policy.is_key(16, 0.05) and policy.is_cut(0.6)
    assert spaced(Schedule(Every(5), age_bound=None), 7).age_bound is None
    assert spaced(Schedule(Every(5)), 1) == Schedule(Every(5))


@pytest.mark.parametrize("least", [2, 9])
def test_key_frames_of_a_fixed_interval_are_as_far_apart_as_they_have_to_be(least):
    policy = spaced(Schedule(Every(5)), least).policy
    first = next(distance for distance in range(1, 99) if policy.is_key(distance, None))
    assert first == max(5, least)
