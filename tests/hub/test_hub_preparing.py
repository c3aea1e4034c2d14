"""Memory and graphs of a video on a GPU are made where no other video waits for them."""

import threading

import pytest
from cuda_stand_in import CALLS
from hub_places import hub_at
from places import GPUS
from test_hub import PATIENCE_S, SIZE, feed, frames, opened

from lowlat.runtime.ending import EngineThread
from lowlat.runtime.gpu.stages import GpuStages
from lowlat.schedule import Every

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=GPUS)
def device(request):
    with hub_at(request.param) as name:
        yield name


@pytest.fixture
def held(monkeypatch):
    """Holds what is made beside the hub's thread until `held.let_go` is set; `held.under_way` says that it began."""

    class Held:
        under_way, let_go = threading.Event(), threading.Event()

    prepare = GpuStages._prepare

    def waiting(stages, size):
        if threading.current_thread().name == "made beside a hub":
            Held.under_way.set()
            assert Held.let_go.wait(PATIENCE_S)
        return prepare(stages, size)

    monkeypatch.setattr(GpuStages, "_prepare", waiting)
    yield Held
    Held.let_go.set()


def waits_of(hub, monkeypatch):
    """The threads that wait for the whole device, or capture, from here on."""
    kind, threads = type(hub._machine._device), []
    if kind.__name__ == "View":
        kind = type(hub._machine._device._shared)
    for owner, name in ((kind, "synchronize"), (type(hub._machine._own), "capture")):
        method = getattr(owner, name)

        def noted(*arguments, method=method, **options):
            threads.append(threading.current_thread().name)
            return method(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)
    return threads


@pytest.mark.parametrize("place", ["fake", "stand-in"])
def test_with_the_size_given_nothing_is_made_on_the_first_frame(tiny_network, place):
    with hub_at(place) as device, opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1, size=SIZE, policy=Every(2), hold=9)
        CALLS.clear()
        if place == "fake":
            hub._machine._device._shared.sealed = True
        feed(gate, frames(6))
        assert gate.counts.labelled == 6 and gate.error is None
        made = {"graph", "Event.__new__", "synchronize", "graph_pool_handle", "ExternalStream.__new__"}
        assert not made & {name for name, _, _ in CALLS}
        if place == "fake":
            hub._machine._device._shared.sealed = False


def test_the_hub_s_thread_neither_captures_nor_waits_for_the_device(tiny_network, device, monkeypatch):
    with opened(tiny_network, device=device, batch=2) as hub:
        threads = waits_of(hub, monkeypatch)
        gate = hub.open("gate", fps=1, size=SIZE, policy=Every(1))
        yard = hub.open("yard", fps=1, policy=Every(1))
        assert set(threads) == {threading.current_thread().name}
        for _ in range(3):
            for size in (SIZE, (40, 56)):
                for frame in frames(6, size):
                    gate.submit(frame)
                    feed(yard, [frame])
            yard.restart()
        yard.close()
        assert "made beside a hub" in threads and "hub" not in threads
        assert gate.counts.failed == 0 and yard.counts.failed == 0


def test_only_the_hub_s_thread_uses_the_stream_of_s_h(tiny_network, device, monkeypatch):
    """A graph that another thread captures there would catch what the hub enqueues meanwhile."""
    with opened(tiny_network, device=device, batch=2) as hub:
        shared, beside, users = hub._machine.stream, hub._machine._own, set()
        for name in ("run", "capture"):
            method = getattr(type(shared), name)

            def noted(stream, *arguments, method=method, **options):
                if stream is beside and hasattr(shared, "enqueue_work"):
                    # The hub's thread may do so at any time: a capture beside it goes on.
                    shared.enqueue_work(lambda: None, (), ())
                if stream is shared:
                    users.add(threading.current_thread().name)
                return method(stream, *arguments, **options)

            monkeypatch.setattr(type(shared), name, noted)
        monkeypatch.setattr(hub._passes, "_pays", lambda size, count: True)
        videos = [hub.open(name, fps=1, size=size, policy=Every(1)) for name, size in (("gate", SIZE), ("yard", None))]
        for frame in frames(2000):
            if hub._passes.batches:
                break
            # At once, so that both ask for S_h before it runs.
            hub._runner.call(lambda frame=frame: [video.submit(frame) for video in videos])
            for video in videos:
                video._seat.wait_for(video._submitted)
        assert hub._passes.batches and users == {"hub"}


def test_other_videos_go_on_while_one_is_made_ready(tiny_network, device, held):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1, size=SIZE, hold=99)
        yard = hub.open("yard", fps=1, hold=99)
        given = frames(5)
        yard.submit(given[0])
        assert held.under_way.wait(PATIENCE_S)
        feed(gate, given)
        for frame in given[1:]:
            yard.submit(frame)
        assert gate.counts.labelled == 5 and yard.counts.labelled == 0 and yard.counts.waiting == 2
        held.let_go.set()
        yard._seat.wait_for(2)
        assert [result.index for result in (yard.close() or yard)] == [0, 4] and yard.counts.dropped == 3


@pytest.mark.parametrize("what", ["close", "restart", "hub.close"])
def test_a_video_may_be_closed_or_started_up_again_while_it_is_made_ready(tiny_network, device, held, what):
    with opened(tiny_network, device=device) as hub:
        gate = hub.open("gate", fps=1, size=SIZE)
        yard = hub.open("yard", fps=1, hold=9)
        yard.submit(frames(1)[0])
        assert held.under_way.wait(PATIENCE_S)
        if what == "restart":
            yard.restart()
            yard.submit(frames(1)[0])
            held.let_go.set()
            yard._seat.wait_for(2)
            assert (yard.counts.failed, yard.counts.labelled) == (1, 1) and yard.latest().index == 1
            return
        closing = threading.Thread(target=yard.close if what == "close" else hub.close)
        closing.start()
        if what == "close":
            feed(gate, frames(3))
            assert gate.counts.labelled == 3 and closing.is_alive(), "it ends once nobody uses what is made"
        held.let_go.set()
        closing.join(PATIENCE_S)
        assert not closing.is_alive() and list(yard) == []
        assert yard.counts.submitted == yard.counts.failed == 1


def test_others_open_videos_while_one_is_opened(tiny_network, device, monkeypatch):
    with opened(tiny_network, device=device) as hub:
        under_way, let_go, prepare = threading.Event(), threading.Event(), GpuStages._prepare

        def waiting(stages, size):
            if threading.current_thread().name == "slow":
                under_way.set()
                assert let_go.wait(PATIENCE_S)
            return prepare(stages, size)

        monkeypatch.setattr(GpuStages, "_prepare", waiting)
        # In the mode of torch that these tests' own threads enter.
        slow = EngineThread("slow", lambda: hub.open("gate", fps=1, size=SIZE))
        assert under_way.wait(PATIENCE_S)
        with hub.open("yard", fps=1, size=SIZE) as yard:
            feed(yard, frames(2))
            hub.videos["gate"].submit(frames(1)[0])
            assert yard.counts.labelled == 2 and hub.bound_ms > 0
        let_go.set()
        slow.join(PATIENCE_S)
        hub.videos["gate"]._seat.wait_for(1)
        assert hub.videos["gate"].counts.labelled == 1


def test_memory_that_does_not_suffice_is_told_where_the_video_is_opened(tiny_network, device, monkeypatch):
    with opened(tiny_network, device=device) as hub:

        def none_left(*arguments, **options):
            raise MemoryError("2 GiB wanted")

        with monkeypatch.context() as patch:
            patch.setattr(hub._prepared, "makers", none_left)
            with pytest.raises(RuntimeError, match="room on the device for a video of 64x48 frames.*lower the frame"):
                hub.open("gate", fps=1, size=SIZE)
            assert hub.videos == {}
            gate = hub.open("gate", fps=1)
            feed(gate, frames(2))
            assert gate.counts.failed == 2 and "2 GiB wanted" in str(gate.error)
        feed(gate, frames(1))
        assert gate.counts.labelled == 1


def test_sizes_that_change_with_every_frame_cost_that_video_alone(tiny_network, device):
    with opened(tiny_network, device=device) as hub:
        gate, yard = (hub.open(name, fps=1, hold=99) for name in ("gate", "yard"))
        for index in range(6):
            feed(yard, frames(1, (40 + 8 * index, 56)))
            feed(gate, frames(1))
        assert yard.counts.labelled == gate.counts.labelled == 6
        assert all(result.startup for result in (yard.close() or yard))
        assert [result.startup for result in (gate.close() or gate)] == [True] + [False] * 5
