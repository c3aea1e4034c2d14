"""Faults planted in the stream runtime, one at a time: each is caught by the fake device's rules, by the values, or by
the counts. Every wait and every record of the runtime is left out once."""

import re
from pathlib import Path

import pytest
from fake_device import FakeDevice, RuleError
from stream_runs import KEY, build, deferred, run

import lowlat.runtime.gpu.stages as streams
from lowlat.runtime.gpu.device import StageTimer
from lowlat.schedule import Every, Schedule

FRAMES = 30
TROUBLE = {"abandoned": {4, 5, 6, 11, 12, 20}, "restarts": {9, 17}}
FALSE_STARTS = {"abandoned": {0, 1, 2}}
LEFT_OUT = [
    ("upload", "wait", "lowered"),
    ("upload", "record", "uploaded"),
    ("S_l", "wait", "uploaded"),
    ("S_l", "wait", "free"),
    ("S_l", "record", "lowered"),
    ("propagation", "wait", "lowered"),
    ("propagation", "wait", "fetched"),
    ("propagation", "wait", "landed"),
    ("propagation", "record", "read"),
    ("propagation", "record", "labelled"),
    ("propagation", "record", "decided"),
    ("propagation", "record", "free"),
    ("propagation", "record", "held"),
    ("fetch", "wait", "labelled"),
    ("fetch", "record", "fetched"),
    ("S_h", "wait", "held"),
    ("S_h", "wait", "lowered"),
    ("S_h", "wait", "read"),
    ("S_h", "record", "landed"),
]


def runs(**device):
    """Runs that together go everywhere: the device fast and slow, frames given up, engines started up again."""
    for seed in range(6):
        for schedule in (deferred(), Schedule(Every(3), "blocking")):
            for trouble in ({}, TROUBLE, FALSE_STARTS):
                weights = {"S_h": (0.02, 1, 50)[seed % 3], "propagation": (1, 0.1)[seed % 2]}
                values = dict.fromkeys(range(2, FRAMES, 3), KEY)
                yield (
                    build(schedule, FakeDevice(seed, weights, **device), values=values, graphs=bool(seed % 2)),
                    trouble,
                )


def check():
    """All runs, with their own checks and the host's one wait a frame."""
    for engine, trouble in runs():
        results = run(engine, FRAMES, lookahead=True, **trouble)
        if not trouble:
            assert all(len(result.waits) == 1 for result in results)


def test_without_a_fault_all_is_well():
    check()


@pytest.mark.parametrize("left_out", LEFT_OUT, ids=" ".join)
def test_every_wait_and_record_is_needed(left_out):
    caught = 0
    for engine, trouble in runs(drop=left_out):
        try:
            run(engine, FRAMES, lookahead=True, **trouble)
        except (RuleError, AssertionError):
            caught += 1
            assert engine.device.left_out
    assert caught


def test_no_wait_or_record_of_the_runtime_is_missing_from_the_list():
    """The sources say `self._fast.wait(...landed)`; the list says ("propagation", "wait", "landed")."""
    names = {"_upload": "upload", "_lower": "S_l", "_fast": "propagation", "_fetch": "fetch", "slow": "S_h"}
    text = Path(streams.__file__).read_text()
    found = re.findall(r"self\.(\w+)\.(wait|record)\((?:\w+\.)*(\w+)\)", text)
    assert {(names[stream], call, event) for stream, call, event in found if stream in names} - {
        ("S_h", "record", "start"),
        ("S_h", "record", "end"),
    } == {*LEFT_OUT} - {("propagation", "record", "landed")}


def plant(monkeypatch, owner, name, fault):
    """Puts `fault(original, *arguments)` in the place of a method."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments, **words: fault(original, *arguments, **words))


def one_slot(begin, stages, frame, index):
    if stages.caches is not None:
        stages.caches.slots[1] = stages.caches.slots[0]
    return begin(stages, frame, index)


def labels_without_waiting(wait, stages, labels):
    return stages._device.host(stages._programs.labels, reads=(labels.labels_out,))


def waits_twice(wait, stages, labels):
    labels.lowered.wait()
    return wait(stages, labels)


def other_slots_labels(wait, stages, labels):
    first, second = stages.caches.slots
    return wait(stages, second if labels is first else first)


def keeps_the_other_slot(hold, stages, key):
    first, second = stages.caches.slots
    for slot in (first, second):
        slot.low, slot.value = slot.low, slot.value
    first.low, second.low = second.low, first.low
    try:
        hold(stages, key)
    finally:
        first.low, second.low = second.low, first.low


def forgets_the_landing(hold, stages, key):
    if key.low is not stages._kept:
        hold(stages, key)


def does_not_keep(hold, stages, key):
    stages._kept = key.low
    stages._active = key.high.side or stages._active


def decision_waited_for(measure, stages, key, low, signal):
    low.slot.decided.wait()
    return measure(stages, key, low, signal)


def makes_events(begin, stages, frame, index):
    stages._device.event("another")
    return begin(stages, frame, index)


def captures_in_one_pool(prepare, stages, size):
    for stream in stages._device.streams:
        stream.capture = lambda pool, *work, capture=stream.capture: capture("the one pool", *work)
    prepare(stages, size)


FAULTS = {
    "one slot for all frames": (streams.GpuStages, "begin", one_slot),
    "labels read without waiting": (streams.GpuStages, "wait", labels_without_waiting),
    "a second wait for the device": (streams.GpuStages, "wait", waits_twice),
    "the other slot's labels": (streams.GpuStages, "wait", other_slots_labels),
    "the other slot kept": (streams.GpuStages, "hold", keeps_the_other_slot),
    "a key frame not kept": (streams.GpuStages, "hold", does_not_keep),
    "S_h writes where propagation reads": (
        streams.GpuStages,
        "_idle_side",
        lambda f, stages: stages.caches.sides[0],
    ),
    "landed features not used": (streams.GpuStages, "hold", forgets_the_landing),
    "the host waits for the decision": (streams.GpuStages, "measure", decision_waited_for),
    "an event made per frame": (streams.GpuStages, "begin", makes_events),
    "graphs of all streams in one pool": (streams.GpuStages, "_prepare", captures_in_one_pool),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault, monkeypatch):
    plant(monkeypatch, *FAULTS[fault])
    # The runtime's own checks raise RuntimeError.
    with pytest.raises((RuleError, AssertionError, RuntimeError)):
        check()


def test_timings_are_given_back():
    device = FakeDevice()
    stream, timer = device.stream("s", None), StageTimer(device, "t", 2)
    for _ in range(5):
        timer.end(stream, timer.begin(stream, "S_l", "lower", 0))
    device.synchronize()
    assert len(timer.finished()) == 2 and len(timer.finished()) == 0
    timer.end(stream, timer.begin(stream, "S_l", "lower", 1))
    device.synchronize()
    assert [span.index for span in timer.finished()] == [1]
