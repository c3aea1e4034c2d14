"""The paper's Table 1 out of its Table 3, by the real schedule and engine under the simulated clock."""

import json

import pytest

from lowlat.jobs.simulate import simulate

TABLE_1 = [
    ({"policy": "per-frame", "mode": "blocking"}, 360, 360),
    ({"policy": "every", "interval": 5, "mode": "blocking"}, 151.2, 360),
    ({"policy": "adaptive", "interval": 5, "mode": "blocking"}, 171.2, 380),
    ({"policy": "adaptive", "interval": 5, "mode": "low-latency", "decision": "critical"}, 119, 119),
    ({"policy": "adaptive", "interval": 5, "mode": "low-latency", "decision": "deferred"}, 99, 99),
]


def table_3(**options):
    return simulate(lower=61, higher=299, select=20, propagate=38, **options)


@pytest.mark.parametrize(("options", "average_ms", "max_ms"), TABLE_1)
def test_table_1_comes_out_of_table_3_exactly(options, average_ms, max_ms):
    report = table_3(frames=1000, **options)
    assert (report.average_ms, report.max_ms) == (average_ms, max_ms)
    assert report.startup_ms == 360


@pytest.mark.parametrize(("options", "average_ms", "max_ms"), TABLE_1)
@pytest.mark.parametrize("frames", [1, 4, 7, 998, 1003])
def test_a_part_of_a_cycle_shifts_the_average_by_less_than_its_share(options, average_ms, max_ms, frames):
    report = table_3(frames=frames, **options)
    assert abs(report.average_ms - average_ms) <= 4 / frames * 380
    assert report.max_ms <= max_ms


def test_in_blocking_mode_average_latency_is_wall_time_over_frames():
    report = table_3(policy="adaptive", mode="blocking")
    assert report.average_ms == report.period_ms == report.work_average_ms == 171.2
    assert (report.launches, report.landings, report.mean_interval) == (200, 200, 5.0)


def test_low_latency_leaves_s_h_out_of_the_average_but_not_out_of_the_work():
    report = table_3(policy="adaptive", mode="low-latency")
    assert (report.average_ms, report.period_ms) == (119, 119)
    assert report.work_average_ms == 119 + 299 / 5


def test_a_deferred_decision_leaves_the_latency_but_stays_in_the_period():
    report = table_3(policy="adaptive", decision="deferred")
    assert (report.mode, report.average_ms, report.period_ms) == ("low-latency", 99, 119)


def test_s_h_in_the_background_is_used_by_the_first_frame_that_starts_after_it():
    """Launched as the labels of frame t go out, 299 ms end within frame t + 3 (238 to 357 ms): used from t +
    4 on."""
    report = table_3(policy="adaptive", mode="low-latency")
    assert (report.landing_delay_frames, report.landing_delay_max_frames) == (4, 4)
    assert (report.launches, report.landings, report.coalesced, report.forced) == (200, 199, 0, 0)
    assert report.age_max_frames == 8


def test_a_landing_at_the_very_start_of_a_frame_is_used_by_it():
    report = simulate(lower=50, higher=300, select=0, propagate=50, policy="every", mode="low-latency")
    assert report.landing_delay_max_frames == 4
    report = simulate(lower=50, higher=300.5, select=0, propagate=50, policy="every", mode="low-latency")
    assert report.landing_delay_max_frames == 5


@pytest.mark.sample(5)
@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("interval", [1, 2.5, 5, 12.3])
@pytest.mark.parametrize("policy", ["threshold", "adaptive", "accumulated"])
def test_the_synthetic_signal_keeps_its_mean_interval(policy, interval, seed):
    report = table_3(policy=policy, interval=interval, seed=seed, frames=2000, mode="blocking")
    assert report.key_frames == pytest.approx(2000 / interval, rel=0.08 if seed is not None else 0, abs=1)
    assert report.forced == 0


def test_a_seed_makes_a_run_repeatable():
    assert table_3(policy="adaptive", seed=3) == table_3(policy="adaptive", seed=3)
    assert table_3(policy="adaptive", seed=3) != table_3(policy="adaptive", seed=4)


def test_costs_that_are_no_whole_numbers_leave_no_dust_in_the_averages():
    report = simulate(lower=6.1, higher=29.9, select=0.2, propagate=3.8, policy="every", interval=5, frames=1000)
    assert (report.average_ms, report.max_ms) == (15.12, 36.0)


def test_too_slow_an_s_h_coalesces_and_ages_stay_bounded():
    report = table_3(policy="per-frame", mode="low-latency", decision="critical")
    assert (report.average_ms, report.coalesced) == (99, 800)
    assert report.age_max_frames == 9


def test_the_report_is_plain_json():
    report = table_3(policy="every", interval=5, frames=10)
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"frames": 0}, "raise --frames"),
        ({"policy": "often"}, "per-frame, every, threshold, adaptive"),
        ({"lower": -1}, "expected lower in finite milliseconds"),
        ({"higher": float("nan")}, "expected higher in finite milliseconds"),
        ({"interval": 2.5}, "adaptive policy for a mean interval"),
        ({"policy": "adaptive", "interval": 0.5}, "at least 1 frame"),
        ({"mode": "blocking", "decision": "deferred"}, "use mode='low-latency'"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_mend(options, mend):
    with pytest.raises(ValueError, match=mend):
        simulate(**options)
