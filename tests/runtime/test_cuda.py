"""What the file for `torch.cuda` calls, method by method: each stands for one thing that CUDA does, with its stream."""

import threading

import numpy as np
import pytest
import torch
from cuda_stand_in import CALLS, CudaStandIn
from places import at

from lowlat.runtime.gpu import driver
from lowlat.runtime.gpu.cuda import CudaDevice
from lowlat.runtime.gpu.device import Priority
from lowlat.schedule import Every
from lowlat.segmenter import VideoSegmenter, prepare


@pytest.fixture
def device():
    with at("stand-in"):
        yield CudaDevice("cuda:1")


def called(action, *names):
    """The calls of those names that an action makes: their arguments, in order."""
    CALLS.clear()
    action()
    return [(name, arguments) for name, arguments, _ in CALLS if name in names]


def test_events_are_recorded_waited_for_and_asked_on_their_streams(device):
    stream, event = device.stream("S_l", Priority.HIGH), device.event("lowered")
    ours, own = stream._stream, event.event
    assert called(lambda: stream.record(event), "Event.record") == [("Event.record", (own, ours))]
    wait = called(lambda: stream.wait(event), "Stream.wait_event", "ExternalStream.wait_event")
    assert [arguments for _, arguments in wait] == [(ours, own)]
    assert called(event.wait, "Event.synchronize", "Event.query") == [("Event.synchronize", (own,))]
    assert called(event.done, "Event.synchronize", "Event.query") == [("Event.query", (own,))]


def test_work_and_copies_are_on_their_stream_and_wait_for_nothing(device):
    stream = device.stream("upload", Priority.HIGH)
    host = device.buffer("frame", lambda: torch.ones(3), host=True)
    there = device.buffer("image", lambda: torch.zeros(3))
    assert called(lambda: stream.copy(host, there), "stream", "synchronize") == [("stream", (stream._stream,))]
    assert there.value.tolist() == [1, 1, 1]
    seen = []
    stream.run(lambda x, y: seen.append((x, y, torch.cuda.current_stream)), (there,), (host,))
    assert called(lambda: stream.run(lambda x: None, (there,), ()), "stream") == [("stream", (stream._stream,))]
    assert seen[0][:2] == (there.value, host.value)


def test_memory_of_the_host_is_pinned_and_the_devices_is_not(device):
    with pytest.MonkeyPatch.context() as patch:
        pinned = []
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
        with torch._C.DisableTorchFunction():
            host = device.buffer("frame", lambda: torch.ones(3), host=True)
            device.buffer("image", lambda: torch.ones(3))
    assert len(pinned) == 1 and pinned[0] is host.value and host.host


def test_graphs_are_captured_on_their_stream_beside_other_threads(device):
    stream = device.stream("S_h", Priority.LOW)
    buffer = device.buffer("high", lambda: torch.zeros(2))
    CALLS.clear()
    graph = stream.capture("S_h", lambda x: x.add_(1), (), (buffer,))
    (options,) = [options for name, _, options in CALLS if name == "graph"]
    assert options["stream"] is stream._stream and options["capture_error_mode"] == "thread_local"
    before = buffer.value.clone()
    graph.replay()
    assert buffer.value.tolist() == (before + 1).tolist()


def test_streams_are_made_in_their_devices_context_and_go_back_to_their_priority(device):
    """The driver of the stand-in refuses a call outside of a device's context."""
    taken = {priority: device.stream("a stream", priority)._stream.cuda_stream for priority in Priority}
    device.close()
    other = CudaDevice("cuda:1")
    again = {priority: other.stream("a stream", priority)._stream.cuda_stream for priority in Priority}
    assert again == taken
    elsewhere = CudaDevice("cuda:0").stream("a stream", Priority.HIGH)._stream.cuda_stream
    assert elsewhere not in taken.values(), "a stream of another GPU"


def test_nobody_waits_for_a_device_while_a_video_of_another_thread_captures(tiny_network, one_thread):
    """CUDA forbids it; the stand-in raises where it happens."""
    frames = [np.full((24, 32, 3), grey, np.uint8) for grey in range(0, 200, 40)]
    raised = []

    def video():
        try:
            for _ in range(3):
                with VideoSegmenter(prepared, policy=Every(2)) as segmenter:
                    for frame in frames:
                        segmenter.step(frame)
        except BaseException as error:
            raised.append(error)

    with at("stand-in") as name:
        prepared = prepare(tiny_network, device=name)
        videos = [threading.Thread(target=video) for _ in range(3)]
        for thread in videos:
            thread.start()
        for thread in videos:
            thread.join()
    assert not raised


@pytest.mark.parametrize("isolation", ["priority", "segment", "partition"])
def test_memory_is_asked_for_on_the_gpu_that_was_named_on_every_thread(tiny_network, one_thread, isolation):
    frames = [np.full((24, 32, 3), grey, np.uint8) for grey in range(0, 200, 40)]

    def video():
        with VideoSegmenter(tiny_network, device="cuda:1", policy=Every(2), isolation=isolation) as segmenter:
            labels.extend(segmenter.step(frame).labels for frame in frames)
            torch.ones(1, device="cuda:1")

    with at("stand-in"):
        labels, thread = [], threading.Thread(target=video)
        thread.start()
        thread.join()
        assert len(labels) == len(frames)
        assert driver.library().stand_in.asked == {torch.device("cuda:1")}


def test_a_thread_that_asks_for_a_gpu_that_is_not_there_is_noticed():
    raised = []

    def ask():
        with pytest.raises(AssertionError, match="invalid device ordinal: cuda:2") as error:
            torch.ones(1, device="cuda:2")
        raised.append(error)

    with at("stand-in"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert raised


def test_the_stand_in_refuses_what_cuda_would():
    stand_in = CudaStandIn()
    stand_in.capturing = object()
    with pytest.raises(AssertionError, match="while a stream captures"):
        stand_in.names["synchronize"]()
