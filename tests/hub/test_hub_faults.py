"""Faults planted in the hub's queue, its loop and its rule: the properties of `test_hub_simulated` notice each."""

import pytest
import test_hub_simulated as properties
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lowlat.hub.loop import Loop
from lowlat.hub.passes import Passes
from lowlat.hub.seat import Seat
from lowlat.hub.turns import PartRule


def generated(test, examples, *strategies):
    """The property on drawn examples alone, many more than a fault needs, and without making a failing one small."""
    inner = test.hypothesis.inner_test
    quick = settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate])
    return quick(given(*strategies)(inner))


BATCHES = st.sampled_from([1, 2, 4])
CALM = (properties.videos, properties.costs, properties.part_costs)
bounds = generated(
    properties.test_every_video_keeps_its_bound_its_order_and_its_account,
    2000,
    *CALM,
    BATCHES,
    st.sampled_from([0.1, 0.5, 1.0]),
)
queue = generated(properties.test_no_video_is_left_out_of_the_queue, 2000, *CALM, st.sampled_from([1, 4]))

overload = properties.test_under_overload_every_video_gets_its_turn_and_its_passes


def youngest_first(choose, passes):
    passes._queue.sort(key=lambda one: -one.since_ms)
    return passes._queue[:1]


def served_last_goes_first(serve, loop, seat):
    serve(loop, seat)
    loop._seats.insert(0, loop._seats.pop())


def parts_before_frames(goes_first, rule, progress, waiting):
    return True


def no_part_while_a_frame_waits(goes_first, rule, progress, waiting):
    return False


def a_failing_batch_is_lost(fail, passes, batch, error):
    passes._batch = None


def drops_the_newest(put, seat, captured):
    if seat.buffer.waiting:
        seat.buffer.captured, seat.buffer.dropped = seat.buffer.captured + 1, seat.buffer.dropped + 1
        return True
    return put(seat, captured)


def labels_twice(hand_out, seat, result):
    hand_out(seat, result)
    hand_out(seat, result)


def forgets_what_a_frame_has_met(ran, rule, cost, waiting):
    ran(rule, cost, ())


def begins_the_whole_pass(advance, passes):
    advance(passes)
    while passes._batch is not None and not passes._batch.finished and passes._batch.error is None:
        passes.collect(())
        if passes._batch is None:
            return
        advance(passes)


FAULTS = {
    "the youngest features first": (overload, Passes, "_choose", youngest_first),
    "the video served last goes first": (overload, Loop, "_serve", served_last_goes_first),
    "parts go before frames that wait": (bounds, PartRule, "goes_first", parts_before_frames),
    "what a frame has met is forgotten": (bounds, PartRule, "part_ran", forgets_what_a_frame_has_met),
    "frames never let a part by": (overload, PartRule, "goes_first", no_part_while_a_frame_waits),
    "a pass is not stopped for frames": (bounds, Passes, "advance", begins_the_whole_pass),
    "a batch that fails is lost": (queue, Passes, "_fail", a_failing_batch_is_lost),
    "the newest frame is dropped": (bounds, Seat, "put", drops_the_newest),
    "a result is handed out twice": (bounds, Seat, "_hand_out", labels_twice),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(monkeypatch, fault):
    notices, owner, name, planted = FAULTS[fault]
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments: planted(original, *arguments))
    with pytest.raises((AssertionError, IndexError)):
        notices()
