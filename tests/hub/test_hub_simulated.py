"""What holds for every video of a hub whatever comes when: the real loop, queue and engines on virtual time."""

import json
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lowlat.cli import app
from lowlat.jobs.simulated import Costs
from lowlat.jobs.simulated_hub import SimulatedHub
from lowlat.jobs.simulated_videos import simulate_videos
from lowlat.schedule import Adaptive, Every, PerFrame, Schedule

EPSILON = 1e-6
POLICIES = [PerFrame(), Every(1), Every(3), Every(5), Adaptive(0.1, cut=0.6)]

# Gaps in ms between the frames of one video: even ones, bursts, and stalls among them.
gaps = st.lists(st.sampled_from([40.0, 40.0, 40.0, 0.0, 3.0, 400.0]) | st.floats(1, 120), min_size=1, max_size=24)
one_video = st.tuples(gaps, st.sampled_from(POLICIES), st.sampled_from([0, 0, 0, 1, 2]))
videos = st.lists(one_video, min_size=1, max_size=4)
costs = st.builds(Costs, st.floats(0.5, 30), st.just(0.0), st.floats(0, 5), st.floats(0.5, 20))
part_costs = st.lists(st.floats(0.2, 40), min_size=1, max_size=12)


@dataclass
class Watched:
    """A hub on virtual time with all that can be seen from outside."""

    hub: SimulatedHub
    seats: list = field(default_factory=list)
    results: dict = field(default_factory=dict)
    parts: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    ahead: list = field(default_factory=list)

    def longest(self):
        return max((end - begun for begun, end in self.parts), default=0.0)


def watch(costs, part_costs, given, *, batch=1, more=1.0):
    """Plays the videos. Passes of those with a 1 fail once in a while, of those with a 2 always but the first."""

    def fails(one):
        # The same again where it is run again, after a batch that has failed.
        kind = given[int(one.video.name)][2]
        return one.number > 1 and (kind == 2 or (kind == 1 and one.number % 3 == 0))

    watched = Watched(SimulatedHub(costs, part_costs, batch=batch, more=more, fails=fails))
    watched.hub.machine.ran = lambda begun, end: watched.parts.append((begun, end))
    add = watched.hub.passes.add

    def noted(one):
        asked, ended = len(watched.ended), one.ended

        def over(*outcome):
            watched.ahead.append(len(watched.ended) - asked)
            watched.ended.append(one.video.name)
            ended(*outcome)

        one.ended = over
        watched.asked.append(one.video.name)
        one.number = watched.asked.count(one.video.name)
        add(one)

    watched.hub.passes.add = noted
    for number, (gaps, policy, _) in enumerate(given):
        times, now = [], 7.0 * number
        for gap in gaps:
            now += gap
            times.append(now)
        schedule = Schedule(policy, decision="deferred")
        results = watched.results[str(number)] = []
        signal = lambda key, index: 0.03 * (index - key)  # noqa: E731
        watched.seats.append(watched.hub.open(str(number), schedule, times, signal, results.append))
    watched.hub.play()
    return watched


@settings(max_examples=60, deadline=None)
@given(videos, costs, part_costs, st.sampled_from([1, 2, 4]), st.sampled_from([0.1, 0.5, 1.0]))
# The last frame of the last video comes during a part that raises.
@example([([40.0, 40, 1, 54, 120], PerFrame(), 0), ([40.0], PerFrame(), 0), ([40.0] * 6 + [3.0], PerFrame(), 1)],
         Costs(1, 0, 0, 1), [2.0], 1, 0.1)  # fmt: skip
# A frame has waited for most of a part when the first batch begins.
@example([([40.0], PerFrame(), 0)] * 3 + [([0.0, 1.0, 40.0], PerFrame(), 0)],
         Costs(4, 0, 0, 5), [2.0, 11.0], 2, 0.1)  # fmt: skip
def test_every_video_keeps_its_bound_its_order_and_its_account(given, costs, part_costs, batch, more):
    watched = watch(costs, part_costs, given, batch=batch, more=more)
    fast = costs.lower + costs.propagate + costs.select
    bound = len(given) * fast + watched.longest()
    # Before a batch has been tried, each of its parts is expected to take as long as those of its passes one by one.
    most = watched.longest() if batch == 1 else max(watched.longest(), batch * max(part_costs))
    for seat, (gaps, _, _) in zip(watched.seats, given, strict=True):
        results, buffer = watched.results[seat.name], seat.buffer
        assert buffer.captured == len(gaps) == seat.labelled + seat.failed + buffer.dropped and not buffer.waiting
        assert len(results) == seat.labelled == seat.engine.state.counts.frames
        assert [result.index for result in results] == sorted({result.index for result in results})
        assert results[-1].index == len(gaps) - 1, "the newest frame is never the one that is lost"
        assert sum(result.startup for result in results) == 1, "one start, since the first pass never fails"
        started, parts = results[0].emitted_ms, list(watched.parts)
        for before, result in pairwise(results):
            while parts and parts[0][1] <= result.available_ms and parts[0][1] <= result.emitted_ms - fast:
                parts.pop(0)
            over = [(begun, end) for begun, end in parts if begun < result.emitted_ms]
            met = sum(min(end, result.emitted_ms) - max(begun, result.available_ms) for begun, end in over)
            if result.available_ms >= started:
                # A frame that comes before its video's last labels are out waits for those too.
                early = fast if result.available_ms < before.emitted_ms else 0.0
                assert result.latency_ms <= bound + early + EPSILON
                assert met <= most + EPSILON, "more of S_h before a frame than one part"
            work = result.emitted_ms - costs.lower - costs.propagate + EPSILON
            assert all(end <= work for _, end in over), "a part of S_h between a frame and its labels"


@settings(max_examples=30, deadline=None)
@given(videos, costs, part_costs, st.sampled_from([1, 4]))
def test_no_video_is_left_out_of_the_queue(given, costs, part_costs, batch):
    """This holds however often others ask, and beside a video whose passes always fail."""
    watched = watch(costs, part_costs, given, batch=batch, more=0.3)
    assert not watched.hub.passes.waiting() and sorted(watched.asked) == sorted(watched.ended), "every pass ends, once"
    assert max(watched.ahead) <= 2 * len(given)


@settings(max_examples=30, deadline=None)
@given(videos, costs, part_costs)
def test_s_h_lands_within_its_share_of_frames_at_any_load(given, costs, part_costs):
    """Frames answered between the beginning of a pass and its end: 20, or with many even parts one a round."""
    watched = watch(costs, part_costs, [(gaps, policy, 0) for gaps, policy, _ in given])
    emitted = sorted(result.emitted_ms for results in watched.results.values() for result in results)
    count, most = len(part_costs), max(20, len(given) * (2 * sum(part_costs) / max(part_costs) + 2)) + len(given)
    # The costs of the parts are known from the first pass on.
    for first in range(count, len(watched.parts) - count + 1, count):
        begun, end = watched.parts[first][0], watched.parts[first + count - 1][1]
        assert sum(begun < ms < end for ms in emitted) <= most


def test_under_overload_every_video_gets_its_turn_and_its_passes():
    """Frames of three videos never cease to wait, and each asks for S_h whenever it can."""
    watched = watch(Costs(10, 0, 1, 9), [5.0] * 8, [([40.0] * 200, Every(1), 0)] * 3)
    labelled = [seat.labelled for seat in watched.seats]
    landings = [seat.engine.state.counts.landings for seat in watched.seats]
    assert sum(seat.buffer.dropped for seat in watched.seats) > 100
    # Videos start one after another.
    assert min(labelled) > 0.8 * max(labelled) and max(landings) - min(landings) <= 2 and min(landings) > 5


def test_one_video_is_as_good_as_alone_beside_a_stalled_and_a_failing_one():
    even = ([40.0] * 40, Every(5), 0)
    costs, parts = Costs(5, 0, 1, 4), [4.0] * 10
    alone = watch(costs, parts, [even])
    beside = watch(costs, parts, [even, ([40.0] * 3 + [1500.0], Every(5), 0), ([40.0] * 40, Every(5), 2)])
    counts = [watched.seats[0].engine.state.counts for watched in (alone, beside)]
    assert counts[0].landings == counts[1].landings and counts[1].failures == 0
    assert max(result.latency_ms for result in beside.results["0"][1:]) <= 3 * 10 + 4
    assert beside.seats[2].engine.state.counts.failures > 3 and beside.seats[2].labelled > 30


def test_a_batch_is_tried_and_kept_only_where_its_parts_are_not_much_longer():
    given = [([40.0] * 60, Every(3), 0)] * 4
    costs, parts = Costs(1, 0, 0, 1), [3.0] * 4

    def batches(more):
        watched = watch(costs, parts, given, batch=4, more=more)
        return watched.hub.passes.batches, watched.longest()

    gaining, longest = batches(0.05)
    assert gaining > 10 and longest <= 3.0 * 1.15 + EPSILON
    # Two trials of four, and two of two: no more.
    assert 2 <= batches(1.0)[0] <= 4


def test_a_batch_that_fails_is_run_again_one_by_one():
    """Only the pass that raises the error fails."""
    given = [([40.0] * 60, Every(3), kind) for kind in (0, 0, 0, 2)]
    watched = watch(Costs(1, 0, 0, 1), [3.0] * 4, given, batch=4, more=0.05)
    failures = [seat.engine.state.counts.failures for seat in watched.seats]
    assert failures[:3] == [0, 0, 0] and failures[3] > 3
    assert all(seat.engine.state.counts.landings > 5 for seat in watched.seats[:3])


def test_nothing_grows_in_an_hour_of_frames():
    """Two videos play at one frame a second, with stalls and failures in between."""
    hour = ([1000.0] * 99 + [3000.0]) * 35
    given = [(hour, Every(5), 1), (hour, Every(5), 0)]

    def kept(seat):
        return len(seat._results), seat.buffer.waiting, len(seat.engine.state.counts.__dict__)

    watched = watch(Costs(10, 0, 1, 9), [10.0] * 8, given)
    for seat in watched.seats:
        assert seat.labelled == len(hour) and not seat.buffer.dropped and kept(seat)[:2] == (1, 0)
    hub = watched.hub
    assert not hub.passes.waiting() and not hub.clock._events
    rule, measured = hub.loop._rule, hub.measured
    assert len(rule._paces) == 2 and len(rule._met) <= 2
    assert [len(pace._periods) for pace in rule._paces.values()] == [5, 5]
    assert [len(costs) for costs in measured._fast.values()] == [64]
    assert list(map(len, measured._parts.values())) == [8]
    assert watched.seats[0].engine.state.counts.failures > 100


def test_videos_of_one_rate_are_simulated_from_costs():
    report = simulate_videos(8, lower=2, higher=12, select=0.3, propagate=1.2, parts=20, frames=200)
    assert (report.labelled, report.dropped, report.spacing) == (8 * 200, 0, 1)
    assert report.bound_ms == pytest.approx(8 * 3.5 + 0.6) and report.max_ms <= report.bound_ms
    assert report.alone_p99_ms == 3.2 and report.p99_ms <= 3.2 + 0.6
    assert report.age_max_frames <= 10 and report.capacity >= 8
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()


def test_as_many_videos_as_the_capacity_says_keep_the_bound_and_the_age():
    options = {"lower": 4, "higher": 30, "select": 0.5, "propagate": 2, "fps": 10, "frames": 120}
    most = simulate_videos(1, **options).capacity
    report = simulate_videos(most, **options)
    # Videos that start while others start too may miss a frame or two.
    assert most == 9 and report.dropped < most and report.max_ms <= report.bound_ms <= 100
    assert report.age_max_frames <= 20
    assert simulate_videos(most + 6, **options).spacing is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--videos", "0"], "expected --videos to be a whole number of at least 1, got 0"),
        (["--videos", "2", "--fps", "0"], "expected --fps above 0"),
        (["--videos", "2", "--more", "2"], "expected --more from 0 to 1"),
        (["--videos", "2", "--mode", "blocking"], "expected low-latency mode and deferred decisions with --videos"),
        (["--videos", "2", "--frames", "1"], "expected --frames enough for labels after start-up, got 1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(options, words):
    result = CliRunner().invoke(app, ["simulate", *options])
    assert result.exit_code == 2 and words in result.stderr


def test_the_command_plays_several_videos():
    result = CliRunner().invoke(app, ["simulate", "--videos", "3", "--fps", "1", "--frames", "20", "--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["videos"], report["labelled"]) == (0, 3, 60)
