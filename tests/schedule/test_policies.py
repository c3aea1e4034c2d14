"""Policies: when they ask for a key frame, and what they refuse."""

import math
from statistics import fmean

import pytest

from lowlat.jobs.policies import make_policy
from lowlat.schedule import Accumulated, Adaptive, Every, PerFrame, Schedule, Signal, Threshold
from lowlat.schedule.policies import POLICIES


def test_per_frame_makes_every_frame_a_key_frame():
    assert all(PerFrame().is_key(distance, None) for distance in range(1, 20))


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_every_makes_a_key_frame_at_its_interval_and_not_before(interval):
    policy = Every(interval)
    assert [policy.is_key(distance, None) for distance in range(1, interval + 2)] == [False] * (interval - 1) + [
        True
    ] * 2


@pytest.mark.parametrize("policy", [Threshold(0.25), Adaptive(0.25)])
def test_measured_policies_ask_only_above_their_threshold(policy):
    assert not policy.is_key(9, 0.25)
    assert policy.is_key(1, math.nextafter(0.25, 1))


@pytest.mark.parametrize(("rate", "expected"), [(0.01, 8), (0.04, 4), (0.16, 2)])
def test_accumulated_deviation_spaces_key_frames_by_the_root_of_its_rate(rate, expected):
    policy = Accumulated(0.63)
    assert next(distance for distance in range(1, 99) if policy.is_key(distance, rate * distance)) == expected


def spend(policy, rates):
    """Key frames and mean deviation over frames whose deviation grows by ``rates``."""
    keys, deviations, since, value = 0, [], 0, 0.0
    for rate in rates:
        since, value = since + 1, value + rate
        if policy.is_key(since, value):
            keys, since, value = keys + 1, 0, 0.0
        deviations.append(value)
    return keys, fmean(deviations)


def test_accumulated_deviation_shows_less_of_it_for_fewer_key_frames():
    rates = [0.0025] * 1200 + [0.04] * 1200
    keys, shown = spend(Accumulated(0.5), rates)
    for other in (Adaptive(0.1), Every(6)):
        other_keys, other_shown = spend(other, rates)
        assert keys < other_keys and shown < other_shown


@pytest.mark.parametrize("policy", [Threshold(0.25), Adaptive(0.25), Accumulated(0.25)])
def test_a_value_that_is_no_number_asks_for_a_key_frame_but_is_no_cut(policy):
    assert policy.is_key(1, math.nan)
    assert not policy.is_cut(math.nan)


def test_a_measured_policy_refuses_to_decide_without_a_value():
    with pytest.raises(ValueError, match="Measured"):
        Adaptive(0.1).is_key(3, None)
    with pytest.raises(ValueError, match="Measured"):
        Accumulated(0.1).is_key(3, None)


def test_the_signal_says_what_is_to_be_measured():
    signals = [policy.signal for policy in (PerFrame(), Every(5), Threshold(1.0), Adaptive(0.1), Accumulated(1.0))]
    assert signals == [None, None, Signal.DIFFERENCE, Signal.DEVIATION, Signal.DEVIATION]


def test_cuts_lie_above_the_cut_value_only():
    assert Adaptive(0.1).is_cut(0.51) and not Adaptive(0.1).is_cut(0.5)
    assert not Adaptive(0.1, cut=None).is_cut(1.0)
    assert Accumulated(2.0).is_cut(0.51) and not Accumulated(2.0, cut=None).is_cut(1.0)
    assert not Threshold(1.0).is_cut(1e9) and Threshold(1.0, cut=2.0).is_cut(2.1)


def test_words_make_the_policies():
    assert make_policy("per-frame") == PerFrame()
    assert make_policy("every", interval=5.0) == Every(5)
    assert make_policy("threshold", threshold=3.5) == Threshold(3.5)
    assert make_policy("adaptive", threshold=0.1, cut=0.7) == Adaptive(0.1, cut=0.7)
    assert make_policy("accumulated", threshold=1.5, cut=0.7) == Accumulated(1.5, cut=0.7)


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (
            lambda: make_policy("sometimes"),
            "--policy to be one of per-frame, .*, accumulated, got 'sometimes'; name one",
        ),
        (lambda: make_policy("every"), "give --interval"),
        (lambda: make_policy("adaptive"), "give --threshold"),
        (lambda: make_policy("per-frame", interval=5), "leave out --interval"),
        (lambda: make_policy("adaptive", threshold=0.1, interval=5), "leave out --interval"),
        (lambda: make_policy("every", interval=5, cut=0.5), "leave out --cut"),
        (lambda: Every(0), "at least 1"),
        (lambda: Every(2.5), "whole number"),
        (lambda: Every(math.inf), "whole number"),
        (lambda: Adaptive(1.5), r"\[0, 1\]"),
        (lambda: Adaptive(math.nan), r"\[0, 1\]"),
        (lambda: Threshold(-1.0), "from 0 up"),
        (lambda: Adaptive(0.6), "raise cut"),
        (lambda: Accumulated(math.inf), "from 0 up"),
        (lambda: Accumulated(1.0, cut=1.5), r"cut in \[0, 1\]"),
        (lambda: Schedule(Every(5), mode="fast"), "'blocking' or 'low-latency'"),
        (lambda: Schedule(Adaptive(0.1), mode="blocking", decision="deferred"), "use mode='low-latency'"),
        (lambda: Schedule(Adaptive(0.1), decision="deferred", on_cut="block"), "use decision='critical'"),
        (lambda: Schedule(Every(5), age_bound=0), "None for no bound"),
        (lambda: Schedule(Every(12)), "age_bound=12"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_mend(make, mend):
    with pytest.raises(ValueError, match=mend):
        make()


def test_every_name_is_a_policy():
    measured = {name: {"threshold": 0.1} for name in ("threshold", "adaptive", "accumulated")}
    options = {"every": {"interval": 3}, **measured}
    assert len({type(make_policy(name, **options.get(name, {}))) for name in POLICIES}) == 5
