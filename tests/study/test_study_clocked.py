"""Outputs as frames arrive: what is processed, and which frame is the newest when its labels are out."""

import pytest
import torch

from lowlat.jobs.simulated import Costs
from lowlat.lab.streaming import Shown, completed
from lowlat.lab.study.clocked import run_clocked
from lowlat.schedule import Every, PerFrame, Schedule


class Indices:
    """Stages whose labels are (frame, frame that the features come from)."""

    def lower(self, frame):
        return frame

    def higher(self, low):
        return low

    def classify(self, high):
        return high, high

    def hold(self, key):
        pass

    def propagate(self, key, low):
        return (low, key.high), key.high

    def measure(self, key, low, signal):
        return 0.0


COSTS = Costs(lower=10, higher=90, select=5, propagate=15)
WHOLE = Schedule(PerFrame(), "blocking")


def places(shown):
    return [(output.index, output.current) for output in shown]


def test_a_network_faster_than_the_source_shows_every_frame_on_time():
    assert places(run_clocked(Indices(), 5, WHOLE, COSTS, fps=9.9)) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_network_slower_than_the_source_skips_to_the_newest_frame():
    # 100 ms a frame at 25 fps: done two and a half frames later.
    shown = run_clocked(Indices(), 12, WHOLE, COSTS, fps=25)
    assert places(shown) == [(1, 3), (3, 6), (6, 8), (8, 11)]
    assert [output.latency_ms for output in shown] == [100, 120, 100, 120]


def test_the_fast_track_keeps_up_where_s_h_lands_late():
    shown = run_clocked(Indices(), 12, Schedule(Every(4), decision="deferred"), COSTS, fps=25)
    assert [output.index for output in shown] == [output.current for output in shown] == list(range(1, 12))
    assert {output.latency_ms for output in shown} == {25}
    # Launched after frame 4's labels at 145 ms, done at 235 ms: used from frame 7 (at 240 ms) on.
    assert [output.labels[1] for output in shown] == [0] * 6 + [4] * 4 + [8] * 1


def test_a_blocking_key_frame_delays_its_own_labels_only():
    shown = run_clocked(Indices(), 8, Schedule(Every(4), "blocking"), COSTS, fps=9.9)
    assert [output.latency_ms for output in shown] == pytest.approx([25, 25, 25, 100, 25, 25, 25])


def test_outputs_are_scored_against_their_own_frame_and_against_the_newest():
    truth = [torch.full((2, 3), label, dtype=torch.uint8) for label in (0, 1, 2)] + [None]
    labels = truth[1].numpy()
    found = completed([Shown(1, 2, labels, 80.0), Shown(1, 3, labels, 90.0)], truth, 3)
    assert (found["miou_of_its_frame"], found["streaming_miou"]) == (100, 0)
    assert (found["shown"], found["latency_ms"], found["frames_late"]) == (2, 85, 1.5)


def test_a_machine_that_completes_nothing_has_no_figures():
    shown = run_clocked(Indices(), 3, WHOLE, COSTS, fps=1000)
    found = completed(shown, [torch.zeros(2, 3, dtype=torch.uint8)] * 3, 3)
    assert found.pop("shown") == 0 and set(found.values()) == {None}
