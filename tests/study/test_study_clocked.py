"""Outputs as frames arrive: what is processed, and which frame is the newest when its labels are out."""

import pytest

from lowlat.runtime.simulated import Costs
from lowlat.schedule import Every, PerFrame, Schedule
from lowlat.study.clocked import stream


class Indices:
    """Stages whose labels are (frame, frame that the features come from)."""

    def lower(self, frame):
        return frame

    def higher(self, low):
        return low

    def classify(self, high):
        return high, high

    def propagate(self, key, low):
        return (low, key.high), key.high

    def measure(self, key, low, signal):
        return 0.0


COSTS = Costs(lower=10, higher=90, select=5, propagate=15)
WHOLE = Schedule(PerFrame(), "blocking")


def places(shown):
    return [(output.index, output.current) for output in shown]


def test_a_network_faster_than_the_source_shows_every_frame_on_time():
    assert places(stream(Indices(), 5, WHOLE, COSTS, fps=9.9)) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_network_slower_than_the_source_skips_to_the_newest_frame():
    # 100 ms a frame at 25 fps: done two and a half frames later.
    shown = stream(Indices(), 12, WHOLE, COSTS, fps=25)
    assert places(shown) == [(1, 3), (3, 6), (6, 8), (8, 11)]
    assert [output.latency_ms for output in shown] == [100, 120, 100, 120]


def test_the_fast_track_keeps_up_where_s_h_lands_late():
    shown = stream(Indices(), 12, Schedule(Every(4), decision="deferred"), COSTS, fps=25)
    assert [output.index for output in shown] == [output.current for output in shown] == list(range(1, 12))
    assert {output.latency_ms for output in shown} == {25}
    # Launched after frame 4's labels at 145 ms, done at 235 ms: used from frame 7 (at 240 ms) on.
    assert [output.labels[1] for output in shown] == [0] * 6 + [4] * 4 + [8] * 1


def test_a_blocking_key_frame_delays_its_own_labels_only():
    shown = stream(Indices(), 8, Schedule(Every(4), "blocking"), COSTS, fps=9.9)
    assert [output.latency_ms for output in shown] == pytest.approx([25, 25, 25, 100, 25, 25, 25])
