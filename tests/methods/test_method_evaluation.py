"""Every method under the engine's schedules: which frames it sees, at which age, and what is compared with what."""

import numpy as np
import pytest
import torch

from lowlat.lab.accuracy import Timing, by_distance, per_frame, run_method, timing_at
from lowlat.lab.methods import METHODS, Method, build
from lowlat.lab.metrics import Confusion
from lowlat.lab.recorded import LabelledVideo, MethodStages
from lowlat.runtime import KeyFrame
from lowlat.runtime.stages import High
from lowlat.schedule import Every


@pytest.fixture(scope="module")
def video(tiny_network, drifting):
    return LabelledVideo(tiny_network, drifting)


def reuse_by_hand(video, data, ages):
    """mIoU of the per-frame labels shown ``age`` frames late; frame 5 is not labelled."""
    confusion = Confusion(11)
    for index, age in enumerate(ages):
        if index != 5 and age is not None:
            confusion.add(torch.from_numpy(video.per_frame[index - age]), data.labels[index])
    return confusion.counts


def test_the_networks_own_method_is_what_the_engine_runs(tiny_network, video):
    key = KeyFrame(2, 2, video.lows[2], video.highs[2])
    labels, high = MethodStages(build("adaptive-fusion", tiny_network), video).propagate(key, video.lows[6])
    own_labels, own_high = video.propagate(key, video.lows[6])
    # The engine's copy has its batch norms folded.
    assert torch.allclose(high.features, own_high.features, atol=1e-4)
    assert high.size == own_high.size and np.mean(labels == own_labels) > 0.999


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_under_a_schedule(name, tiny_network, video, drifting):
    run = run_method(build(name, tiny_network, flow=drifting.flow), video, Timing(Every(5), delay=3))
    assert [result.age for result in run.results] == [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 3]
    assert [result.index for result in run.results if result.key] == [0, 5, 10]
    assert run.mean_interval == 13 / 2 and run.mean_age == pytest.approx(56 / 13)
    assert run.confusion.counts.sum() > 0


def test_scores_under_a_schedule_are_those_of_the_ages_shown(tiny_network, video, drifting):
    method = build("reuse", tiny_network)
    late = run_method(method, video, Timing(Every(5), delay=3)).confusion
    expected = reuse_by_hand(video, drifting, [0, 1, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 3])
    assert torch.equal(late.counts, expected)
    blocking = run_method(method, video, Timing(Every(5), delay=0)).confusion
    assert torch.equal(blocking.counts, reuse_by_hand(video, drifting, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3]))
    assert torch.equal(per_frame(video).counts, reuse_by_hand(video, drifting, [0] * 14))


def test_distances_pair_every_key_frame_with_its_later_frame(tiny_network, video, drifting):
    rows = by_distance(build("reuse", tiny_network), video, (1, 4))
    assert list(rows) == [1, 4]
    assert torch.equal(rows[4].counts, reuse_by_hand(video, drifting, [None] * 4 + [4] * 10))
    spy = Spy(tiny_network)
    by_distance(spy, LabelledVideo(tiny_network, drifting, range(7, 13)), (1, 4))
    assert spy.calls[:6] == [("begin", 7), ("carry", 8), ("carry", 11), ("begin", 8), ("carry", 9), ("carry", 12)]


def test_no_pair_spans_a_cut(tiny_network, drifting, monkeypatch):
    monkeypatch.setattr(drifting, "videos", [range(0, 6), range(6, 14)])
    video = LabelledVideo(tiny_network, drifting)
    rows = by_distance(build("reuse", tiny_network), video, (4,))
    expected = reuse_by_hand(video, drifting, [None] * 4 + [4] * 2 + [None] * 4 + [4] * 4)
    assert torch.equal(rows[4].counts, expected)


def test_the_scenes_of_a_part_of_a_set_are_counted_from_its_first_frame(tiny_network, drifting, monkeypatch):
    monkeypatch.setattr(drifting, "videos", [range(0, 4), range(4, 9), range(9, 14)])
    assert LabelledVideo(tiny_network, drifting, range(5, 11)).scenes == [range(0, 4), range(4, 6)]


class Spy(Method):
    """Notes which frames begin and which are carried; hands F_h on."""

    def __init__(self, network):
        super().__init__(network)
        self.calls = []

    def begin(self, key, high):
        self.calls.append(("begin", key.index))
        return high

    def carry(self, state, current):
        self.calls.append(("carry", current.index))
        return self.network.classify(state), state + 1


def test_a_promoted_frame_begins_with_what_was_carried_to_it(tiny_network, drifting):
    spy = Spy(tiny_network)
    # Indices are those of the data set.
    video = LabelledVideo(tiny_network, drifting, range(3, 9))
    assert torch.equal(video.view(video.lows[1]).frame[0], drifting.image(4))
    run_method(spy, video, Timing(Every(2), delay=2))
    assert spy.calls == [
        ("begin", 3), ("carry", 4), ("carry", 5),  # promoted after its labels
        ("begin", 5), ("carry", 6),
        ("begin", 5), ("carry", 7),  # S_h of frame 5 has landed
        ("begin", 7), ("carry", 8),
    ]  # fmt: skip


def test_a_method_begins_anew_at_a_frame_far_from_its_base(tiny_network, drifting):
    spy = Spy(tiny_network)
    run_method(spy, LabelledVideo(tiny_network, drifting, range(6)), Timing(Every(8), delay=2))
    assert spy.calls == [
        ("begin", 0), ("carry", 1), ("carry", 2), ("carry", 3),
        ("begin", 3), ("carry", 4), ("carry", 5),
    ]  # fmt: skip


def test_a_temporary_key_frame_has_the_features_carried_to_it(tiny_network, video):
    stages = MethodStages(Spy(tiny_network), video)
    _, once = stages.propagate(KeyFrame(0, 0, video.lows[0], video.highs[0]), video.lows[1])
    _, twice = stages.propagate(KeyFrame(1, 0, video.lows[1], once), video.lows[2])
    assert isinstance(twice, High)
    assert (twice.features - video.highs[0].features - 2).abs().max() < 1e-5


@pytest.mark.parametrize("delay", [0, 2])
def test_policies_are_compared_at_the_same_rate(video, monkeypatch, delay):
    assert timing_at(video, "every", 3, delay) == Timing(Every(3), delay)
    monkeypatch.setattr(video, "measure", lambda key, low, signal: 0.02 * (video._index[id(low)] - key.index))
    for policy in ("threshold", "adaptive", "accumulated"):
        timing = timing_at(video, policy, 3, delay)
        run = run_method(build("reuse", video.network), video, timing)
        assert [result.index for result in run.results if result.key] == [0, 3, 6, 9, 12]
    assert timing_at(video, "every", 12, delay).age_bound == 24
    with pytest.raises(ValueError, match="every or one of threshold, adaptive, accumulated, got 'sometimes'"):
        timing_at(video, "sometimes", 3)
