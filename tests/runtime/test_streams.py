"""The runtime on streams over a device that checks the rules of use: whatever order the device takes, labels come from
the features they should, the host waits once a frame, and nothing is made after warm-up."""

import pytest
from fake_device import FakeDevice, FakePrograms, RuleError
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_runs import CUT, KEY, STREAMS, build, deferred, run

from lowlat.runtime import FrameBuffer
from lowlat.runtime.protocols import Job
from lowlat.schedule import Adaptive, Every, PerFrame, Schedule

SCHEDULES = [
    deferred(),
    deferred(Every(3)),
    Schedule(Adaptive(0.1)),
    Schedule(Adaptive(0.1, cut=0.5), on_cut="block", decision="critical"),
    Schedule(Every(3), "blocking"),
    Schedule(PerFrame(), "blocking"),
]


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    weights=st.fixed_dictionaries({name: st.sampled_from((1, 5, 100)) for name in STREAMS}),
    schedule=st.sampled_from(SCHEDULES),
    graphs=st.booleans(),
    segments=st.sampled_from((None, 1, 4)),
    lookahead=st.booleans(),
    values=st.dictionaries(st.integers(1, 30), st.sampled_from((KEY, CUT)), max_size=20),
    abandoned=st.sets(st.integers(0, 30), max_size=8),
    restarts=st.sets(st.integers(1, 30), max_size=2),
    failing=st.sets(st.integers(1, 30), max_size=3),
    scores=st.sampled_from(("", "grid", "frame")),
)
def test_no_order_of_the_device_breaks_a_rule(
    seed, weights, schedule, graphs, segments, lookahead, values, abandoned, restarts, failing, scores
):
    engine = build(schedule, FakeDevice(seed, weights), values=values, graphs=graphs, segments=segments)
    trouble = {"abandoned": abandoned, "restarts": restarts, "failing": failing}
    if schedule.mode.value == "blocking":
        trouble["failing"] = ()
    results = run(engine, 31, lookahead=lookahead, scores=scores, **trouble)
    assert {result.index for result in results} == set(range(31)) - abandoned - engine.lost


def test_passes_land_while_frames_go_on_and_the_age_says_so():
    results = run(build(deferred(Every(3)), FakeDevice(weights={"S_h": 0.02})), 60)
    landed = [result for result in results if result.landed is not None]
    assert len(landed) > 3
    assert all(result.age == result.index - result.landed for result in landed)
    assert max(result.age for result in results) > 3


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
@pytest.mark.parametrize("lookahead", [False, True], ids=["", "ahead"])
def test_the_host_waits_once_a_frame_for_its_labels(graphs, lookahead):
    engine = build(deferred(), values=dict.fromkeys(range(0, 200, 4), KEY), graphs=graphs)
    results = run(engine, 200, lookahead=lookahead)
    assert [len(result.waits) for result in results] == [1] * 200
    assert all(result.waits[0].startswith("fetched") for result in results)
    assert engine.state.counts.landings > 10


@pytest.mark.parametrize("segments", [None, 4])
def test_features_that_land_late_are_those_of_the_newest_base(segments):
    engine, far = build(deferred(Every(4)), segments=segments), 0
    worker, poll = engine._worker, engine._worker.poll
    worker.poll = lambda index: None if worker._job and index < worker._job[0].index + 9 else poll(index)
    for result in run(engine, 200):
        if result.landed is not None:
            _, index, base, source = result.labels
            assert source == result.landed and index - base <= 3
            far += base > source
    assert far > 3


@pytest.mark.parametrize("graphs", [False, True], ids=["eager", "graphs"])
def test_frames_far_from_the_key_frame_are_propagated_from_one_between(graphs):
    engine = build(deferred(), values={4: KEY}, graphs=graphs)
    engine.device.progress = engine.device.finish
    labels = [engine.step(index).labels for index in range(12)]
    # (frame, propagated from, S_h's): S_h of frame 4 has landed by frame 5, which is next to its key frame.
    assert [label[1:] for label in labels[1:]] == [
        (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 3, 0), (5, 4, 4), (6, 4, 4), (7, 4, 4), (8, 7, 4), (9, 7, 4), (10, 7, 4),
        (11, 10, 4),
    ]  # fmt: skip
    assert {(key, index) for key, index in engine.stages._programs.decided} == {
        *((0, index) for index in range(1, 5)),
        *((4, index) for index in range(5, 12)),
    }


def test_the_next_frame_is_begun_before_the_labels_of_this_one_are_waited_for():
    engine = build(deferred(Every(10)))
    with FrameBuffer("wait", capacity=6, clock=engine.device) as buffer:
        for frame in range(6):
            buffer.put(frame)
        buffer.end()
        assert [result.labels[1] for result in engine.run(buffer)] == list(range(6))
    order = [" ".join(entry) for entry in engine.device.log]
    for frame in range(1, 5):
        here, there = frame % 2, (frame + 1) % 2
        del order[: order.index(f"propagation run propagated, labels{here}, scores{here}")]
        assert order.index(f"S_l run low{there}") < order.index(f"host wait fetched{here}")


def test_a_frame_is_enqueued_in_exactly_this_order():
    device = FakeDevice()
    device.progress = device.finish
    engine = build(deferred(), device, values={2: KEY})
    for index in range(2):
        engine.step(index)
    del device.log[:]
    assert engine.step(2).launched
    assert [" ".join(entry) for entry in device.log] == [
        "upload wait lowered0",
        "upload run image0",
        "upload record uploaded0",
        "S_l wait uploaded0",
        "S_l wait free0",
        "S_l run low0",
        "S_l record lowered0",
        "propagation wait lowered0",
        "propagation wait fetched0",
        "propagation run propagated, labels0, scores0",
        "propagation record read0",
        "propagation record labelled0",
        "fetch wait labelled0",
        "fetch run labels_out0",
        "fetch record fetched0",
        "propagation run value0",
        "propagation run value_out0",
        "propagation record decided0",
        "propagation record free0",
        "host wait fetched0",
        "propagation wait landed",
        "propagation run kept, base, place0",
        "propagation run high0",
        "propagation record read0",
        "propagation record free0",
        "propagation record held",
        "S_h wait held",
        "S_h run high1",
        "S_h record landed",
    ]


def test_scores_are_fetched_behind_the_labels_and_only_where_they_are_asked_for():
    engine = build(deferred(Every(9)))
    for index, scores in enumerate(("grid", "", "frame", "", "", "grid")):
        del engine.device.log[:]
        result = engine.step(index, scores=scores)
        fetched = [" ".join(entry) for entry in engine.device.log if entry[0] == "fetch"]
        slot = index % 2
        copies = [f"fetch run labels_out{slot}", *([f"fetch run scores_out{slot}"] if scores else [])]
        assert fetched == [f"fetch wait labelled{slot}", *copies, f"fetch record fetched{slot}"]
        assert result.scores == ((scores, (8, 8), result.labels) if scores else None)


@pytest.mark.parametrize("segments", [None, 4])
@pytest.mark.parametrize("on_cut", ["degrade", "block"])
def test_with_graphs_everything_after_the_first_frame_is_a_replay(on_cut, segments):
    schedule = Schedule(Adaptive(0.1), decision="critical" if on_cut == "block" else "deferred", on_cut=on_cut)
    values = dict.fromkeys(range(0, 60, 4), KEY) | dict.fromkeys(range(10, 60, 10), CUT)
    engine = build(schedule, values=values, graphs=True, segments=segments)
    ran = []
    for stream in engine.device.streams:
        stream.run = lambda work, reads, writes, run=stream.run: (ran.append(writes[0].name), run(work, reads, writes))
    engine.step(0)
    del ran[:]
    for index in range(1, 60):
        engine.step(index)
    assert ran == [] and engine.device.replays > 59 * 3


def test_a_decision_that_is_not_there_yet_counts_for_the_next_frame_and_only_against_its_own_key_frame():
    """Labels are fetched before the decision gets its turn: each value is there one frame late, and the value against
    the key frame before decides nothing."""
    device = FakeDevice(weights={"fetch": 1e9})
    engine = build(deferred(), device, values=dict.fromkeys(range(1, 50), KEY))
    device.progress = lambda: None
    results = [engine.step(index) for index in range(9)]
    assert [result.index for result in results if result.value == KEY][:1] == [2]
    keys = [result.index for result in results[1:] if result.key]
    assert keys and 1 not in {after - before for before, after in zip(keys, keys[1:], strict=False)}


@pytest.mark.parametrize("interval", [6, 8], ids=["a key frame", "what later frames are propagated from"])
def test_a_frame_that_can_not_be_kept_for_want_of_memory_starts_the_stream_up_again(interval):
    engine = build(deferred(Every(interval)))
    for index in range(6):
        engine.step(index)
    result = engine.answer(6)
    assert engine.schedule.rebase == 3 and engine.state.base == 3
    engine.device.refusals["propagation"] = MemoryError("2 GiB wanted")
    engine.settle()
    assert isinstance(result.error, MemoryError) and not result.settled
    after = [engine.step(index) for index in range(7, 20)]
    assert after[0].startup and [each.labels for each in after[:2]] == [("classified", 7), ("propagated", 8, 7, 7)]
    assert any(each.landed for each in after) and not any(each.degraded or each.error for each in after)


@pytest.mark.parametrize("stream", ["propagation", "S_h"])
def test_a_base_that_can_not_be_kept_while_s_h_is_under_way_starts_the_stream_up_again(stream):
    engine = build(deferred(Every(4)))
    poll, engine._worker.poll = engine._worker.poll, lambda index: None
    for index in range(7):
        engine.step(index)
    result = engine.answer(7)
    engine.device.refusals[stream] = MemoryError("2 GiB wanted")
    engine.settle()
    assert isinstance(result.error, MemoryError) and engine.state.flight is None
    engine._worker.poll = poll
    after = [engine.step(index) for index in range(8, 30)]
    assert after[0].startup and any(each.landed for each in after) and not any(each.error for each in after)


def test_a_frame_of_another_size_is_refused_and_the_stream_goes_on():
    engine = build(deferred(Every(3)))
    engine.step(0)
    with pytest.raises(ValueError, match="expected a frame of 8x8 as before, got 9x9; scale frames to one size"):
        engine.step(1000, index=1)
    assert engine.step(2).labels == ("propagated", 2, 0, 0)


def test_what_is_no_frame_is_refused_before_anything_is_enqueued():
    engine = build(deferred(Every(3)))
    with pytest.raises(ValueError, match="expected a number"):
        engine.step("frame")
    assert engine.step(0).startup


def test_memory_that_does_not_suffice_at_the_start_says_what_to_lower():
    programs = FakePrograms()
    programs.room = 5
    engine = build(deferred(Every(3)), programs=programs)
    with pytest.raises(
        RuntimeError, match="8x8 frames, got: 2 GiB wanted.*lower the frame size, take dtype='bfloat16'"
    ):
        engine.step(0)
    programs.room = 100
    assert engine.step(1).startup, "with room again the stream starts"


def test_memory_that_ends_later_costs_a_pass_and_not_the_stream():
    engine = build(deferred(Every(2)))
    engine.step(0)
    engine.step(1)
    engine.device.refusals["S_h"] = MemoryError("S_h: no room")
    failed = engine.step(2)
    assert isinstance(failed.error, MemoryError) and failed.labels == ("propagated", 2, 0, 0)
    results = [engine.step(index) for index in range(3, 20)]
    assert results[0].labels == ("propagated", 3, 2, 0), "the key frame, with the features there were"
    assert any(result.landed for result in results) and not results[-1].degraded


def test_a_part_of_s_h_that_raises_later_fails_the_pass():
    engine = build(deferred(Every(2)), segments=4)
    for index in range(3):
        engine.step(index)
    engine.device.refusals["S_h"] = ArithmeticError("a part broke")
    results = [engine.step(index) for index in range(3, 40)]
    assert [type(result.error) for result in results if result.error] == [ArithmeticError]
    assert any(result.landed is not None for result in results)


def test_stages_are_timed_on_the_device_without_waiting():
    engine = build(deferred(Every(3)))
    results = run(engine, 30)
    spans = [span for result in results for span in result.spans]
    stages = {(span.track, span.stage) for span in spans}
    assert stages >= {("S_l", "lower"), ("S_l", "upload"), ("propagation", "propagate"), ("propagation", "fetch")}
    assert stages >= {("S_h", "higher"), ("host", "wait"), ("host", "propagate")}
    assert all(span.end_ms >= span.start_ms for span in spans)
    assert {span.index for span in spans if span.stage == "lower" and span.track == "S_l"} >= set(range(1, 28))


def test_several_streams_share_a_network_and_nothing_else():
    programs = FakePrograms()
    device = FakeDevice(3)
    engines = [build(deferred(Every(2)), device, programs=programs) for _ in range(3)]
    for index in range(20):
        for engine in engines:
            result = engine.step(index)
            assert result.labels[1] == index
    assert all(engine.state.counts.landings > 2 for engine in engines)
    engines[0].close()
    assert engines[1].step(20).labels[1] == 20


def test_a_busy_or_closed_worker_refuses_a_job():
    engine = build(deferred(Every(1)), FakeDevice(weights={"S_h": 1e-9}))
    engine.step(0)
    engine.device.progress = lambda: None
    engine.step(1)
    with pytest.raises(RuntimeError, match="one with a job in flight"):
        engine._worker.submit(Job(9, 1, None))
    engine.close()
    with pytest.raises(RuntimeError):
        engine._worker.submit(Job(9, 1, None))


def test_closing_waits_for_what_the_device_still_does():
    engine = build(deferred(Every(1)))
    engine.step(0)
    engine.step(1)
    engine.close()
    engine.close()
    assert not any(stream.queue for stream in engine.device.streams)


def test_the_fake_device_refuses_what_a_device_would_not_notice():
    device = FakeDevice()
    a, b = device.stream("a", None), device.stream("b", None)
    buffer = device.buffer("x", lambda: None)
    a.run(lambda x: None, (), (buffer,))
    with pytest.raises(RuleError, match="'b' at its step 1 reads 'x' before the event"):
        b.run(lambda x: None, (buffer,), ())
    event = device.event("e")
    b.wait(event)  # never recorded: guards nothing
    with pytest.raises(RuleError, match="writes 'x' while 'a'"):
        b.run(lambda x: None, (), (buffer,))
    a.record(event)
    b.wait(event)
    b.run(lambda x: None, (buffer,), ())
    with pytest.raises(RuleError, match="writes 'x' while 'b'"):
        a.run(lambda x: None, (), (buffer,))
    with pytest.raises(RuleError, match="is the device's"):
        device.host(lambda x: x, reads=(buffer,))
    device.synchronize()
    with pytest.raises(RuleError, match="'y' can be given other memory"):
        device.buffer("y", lambda: [1.5])
