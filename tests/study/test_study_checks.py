"""Claims follow from rows alone: each holds and fails on the right side of its bar."""

import pytest

from lowlat.lab.study.checks import checks, equal_rate_gains


def methods(**miou):
    return [{"data": "street", "method": name.replace("_", "-"), "miou": value} for name, value in miou.items()]


def held(tables, words):
    (row,) = [row for row in checks(tables) if words in row["claim"]]
    return row["held"], row["value"]


def test_the_lead_over_methods_without_motion_needs_three_points():
    rows = methods(reuse=50, unified=52, image_difference=51, flow=54, adaptive=53, adaptive_fusion=55)
    assert held({"table2": rows}, "next best (flow)") == (True, 1)
    assert held({"table2": rows}, "best of reuse, unified") == (True, 3)
    rows[-1]["miou"] = 54.9
    assert held({"table2": rows}, "best of reuse, unified") == (False, 2.9)


def test_a_tie_is_no_win():
    assert held({"table2": methods(flow=55, adaptive_fusion=55)}, "next best (flow)") == (False, 0)


def test_exact_flow_is_no_rival_and_the_per_frame_row_no_method():
    rows = methods(reuse=50, exact_flow=90, adaptive_fusion=60) + [
        {"data": "street", "method": "per frame", "miou": 95}
    ]
    assert held({"table2": rows}, "next best (reuse)") == (True, 10)


def schedules(network, blocking, late):
    about = {"data": "camvid", "network": network, "average_ms": 100.0, "max_ms": 100.0}
    return [
        {**about, "network": "per frame", "schedule": "per frame", "miou": 64.0, "drop": 0.0},
        {**about, "schedule": "fixed, every 5 frames", "miou": 1.0, "drop": 63.0},
        {**about, "schedule": "adaptive", "miou": blocking, "drop": 64.0 - blocking},
        {**about, "schedule": "adaptive, low-latency", "miou": late, "drop": 64.0 - late},
    ]


def test_low_latency_is_held_against_blocking_and_against_per_frame():
    assert held({"table1": schedules("trained", 62.0, 60.5)}, "below adaptive blocking") == (True, 1.5)
    assert held({"table1": schedules("trained", 62.0, 60.4)}, "below adaptive blocking")[0] is False
    assert held({"table1": schedules("trained", 62.0, 60.0)}, "below per frame") == (True, 4)
    assert held({"table1": schedules("trained", 62.0, 59.9)}, "below per frame")[0] is False


def test_the_network_given_goes_before_those_trained():
    rows = schedules("given", 62.0, 61.0) + schedules("trained", 62.0, 50.0)[1:]
    assert held({"table1": rows}, "below adaptive blocking") == (True, 1)


@pytest.mark.parametrize(("miou", "accuracy", "expected"), [(63.0, 91.0, [True, True]), (62.9, 90.9, [False, False])])
def test_the_per_frame_network_is_judged_on_test(miou, accuracy, expected):
    rows = [
        {"data": "camvid", "split": "test", "miou": miou, "pixel_accuracy": accuracy},
        {"data": "camvid", "split": "val", "miou": 80.0, "pixel_accuracy": 99.0},
    ]
    assert [row["held"] for row in checks({"table4": rows})] == expected
    assert checks({"table4": [{**row, "data": "street"} for row in rows]}) == []


def curve(policy, *points, network="given"):
    return [{"data": "camvid", "network": network, "policy": policy, "mean_interval": x, "miou": y} for x, y in points]


def test_schedules_are_compared_at_the_rate_they_really_had():
    fixed = curve("every", (4, 60.0), (6, 58.0))
    assert equal_rate_gains(fixed + curve("adaptive", (5, 59.5)), "adaptive", "every") == []
    assert equal_rate_gains(fixed + curve("adaptive", (4.4, 60.0)), "adaptive", "every") == [pytest.approx(0.4)]
    # Beyond the curve's ends its last point counts.
    assert equal_rate_gains(fixed + curve("adaptive", (6.5, 57.5)), "adaptive", "every") == [pytest.approx(-0.5)]


def test_a_schedule_that_never_came_to_the_rate_is_no_proof():
    rows = curve("adaptive", (5, 60)) + curve("every", (5, 59)) + curve("threshold", (9, 50))
    assert held({"figure5": rows}, "adaptive over every") == (True, 1)
    assert held({"figure5": rows}, "adaptive over threshold") == (False, None)
    assert held({"figure5": rows}, "accumulated over every") == (False, None)
    assert held({"figure5": rows + curve("accumulated", (5, 58.5))}, "accumulated over every") == (False, -0.5)


def test_correlation_is_the_mean_over_networks_and_claims_without_tables_are_left_out():
    rows = [{"data": "camvid", "network": "trained", "pearson": value} for value in (0.6, 0.9)]
    assert held({"figure3": rows}, "Pearson") == (True, 0.75)
    assert [row["claim"] for row in checks({"figure3": rows, "table2": []})] == [
        "predicted and true deviation: Pearson"
    ]
