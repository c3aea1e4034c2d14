"""Batches of S_h on a GPU: on the fake one, whose streams get on in random orders, and with a real network on the
stand-in for `torch.cuda`."""

import inspect
import sys
import textwrap
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_device import RuleError
from hub_places import hub_at
from hub_stage import FakeRows, Stage
from test_hub import know
from waiting import until

import lowlat
from lowlat.hub.gpu_machine import GpuMachine
from lowlat.hub.passes import Pass, Passes
from lowlat.hub.shared import SharedStream
from lowlat.hub.together import Rows
from lowlat.schedule import Every


@pytest.fixture
def stage(monkeypatch):
    """stage(seed, videos, ...): batches of up to four passes, as soon as so many wait."""
    monkeypatch.setattr(Passes, "_pays", lambda passes, size, count: True)
    advance = Passes.advance

    def one_at_a_time(passes):
        under_way = [kind for kind, *_ in passes._machine.stream.queue]
        assert "run" not in under_way, "a part is launched before the one before it is complete"
        advance(passes)

    monkeypatch.setattr(Passes, "advance", one_at_a_time)
    return lambda seed, videos=4, **options: Stage(monkeypatch, seed, videos, **({"batch": 4} | options))


def play(stage, frames, *, first=0, restarts=(), leaving=None, refused=()):
    """Frames of all videos in turn; in `restarts` are frames behind which some video starts up again, in `refused`
    those behind which S_h is refused memory; `leaving` is the one behind which the last video goes."""
    random = stage.device.random
    for index in range(first, first + frames):
        there = [number for number, seat in enumerate(stage.seats) if not seat.gone]
        for number in there:
            stage.put(number, index)
        for number in there:
            stage.until_labelled(number, stage.seats[number].buffer.captured)
        stage.turns(random.choice((0, 3, 30, 120)))
        if index in restarts:
            stage.seats[random.choice(there)].restart()
        if index == leaving:
            stage.loop.leave(stage.seats[-1])
            stage.seats[-1].release()
        if index in refused:
            stage.device.refusals[stage.machine.stream.name] = MemoryError("no room for F_h")
    while stage.turn():
        pass
    stage.check()


@pytest.mark.parametrize("graphs", [False, True], ids=["", "graphs"])
@pytest.mark.parametrize("seed", range(6))
def test_labels_come_from_the_video_s_own_features(stage, seed, graphs):
    at = stage(seed, graphs=graphs)
    play(at, 25)
    assert at.passes.batches > 3
    for seat in at.seats:
        assert seat.labelled == 25 and seat.failed == 0 and seat.engine.state.counts.landings > 2
    at.loop.close()


@pytest.mark.parametrize("seed", range(6))
def test_what_becomes_of_a_video_that_starts_up_or_goes_is_its_own(stage, seed):
    at = stage(seed, graphs=bool(seed % 2))
    play(at, 30, restarts={*range(1, 30, 2)}, leaving=14)
    assert at.passes.batches > 3
    assert all(seat.labelled + seat.failed == 30 for seat in at.seats[:3])
    assert all(seat.engine.state.counts.landings for seat in at.seats[:3])
    at.loop.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_that_is_refused_memory_is_run_again_one_by_one(stage, seed):
    at = stage(seed, policy=Every(2))
    failed, run = [], at.passes._fail
    at.passes._fail = lambda batch, error: failed.append(len(batch.passes)) or run(batch, error)
    play(at, 30, refused={*range(5, 25, 3)})
    failures = sum(seat.engine.state.counts.failures for seat in at.seats)
    assert any(count > 1 for count in failed), "no batch was refused memory"
    assert failures == sum(count == 1 for count in failed), "a batch is nobody's failure"
    assert all(seat.labelled == 30 and seat.engine.state.counts.landings > 3 for seat in at.seats)
    at.loop.close()


def test_a_batch_is_captured_once_and_all_parts_are_replays(stage):
    at = stage(3, graphs=True)
    play(at, 12)
    made, ran = at.device.made.copy(), []
    at.device.sealed = True
    for stream in at.device.streams:
        stream.run = lambda work, reads, writes, run=stream.run: (ran.append(writes[0].name), run(work, reads, writes))
    before = at.passes.batches
    play(at, 12, first=12)
    assert at.passes.batches > before and at.device.made == made
    # The copies into a batch and out of it are no graphs: they go between memory of any videos.
    assert {name.split(" of ")[0].rstrip("01") for name in ran} <= {"4 x low", "2 x low", "high"}
    at.loop.close()


def test_memory_is_that_of_the_sizes_in_use_and_none_at_the_end(stage):
    at = stage(5)
    play(at, 12)
    together = at.machine._together
    assert set(together) <= {(None, 4), (None, 2)} and any(together.values())
    at.passes.keep({"another"})
    assert not together
    play(at, 12, first=12)
    assert any(together.values()), "made again where it is wanted again"
    for seat in list(at.seats):
        at.loop.leave(seat)
    assert not together, "the last video has gone"
    at.loop.close()


def test_no_memory_for_a_batch_is_said_once_and_passes_run_one_by_one(stage, monkeypatch):
    at = stage(2)
    monkeypatch.setattr(at.machine._rows, "several", lambda value, count: (_ for _ in ()).throw(MemoryError("2 GiB")))
    with pytest.warns(RuntimeWarning, match="Hub: passes of S_h run one by one, not in batches of .*2 GiB") as said:
        play(at, 20)
    assert len(said) <= 2, "of four, and of two"
    assert at.passes.batches == 0 and all(seat.engine.state.counts.landings > 2 for seat in at.seats)
    at.loop.close()


def runs(stage):
    """Runs that together go everywhere."""
    for seed in range(4):
        at = stage(seed, graphs=bool(seed % 2), weights={"S_h of all of 0": (0.05, 1, 20, 0.3)[seed]})
        play(at, 20, restarts={*range(2, 20, 3)}, leaving=12 if seed > 1 else None)
        assert at.passes.batches
        at.loop.close()


def test_without_a_fault_all_is_well(stage):
    runs(stage)


def plant(monkeypatch, owner, method, old, new):
    """Replaces a text in the source of a method."""
    text = textwrap.dedent(inspect.getsource(getattr(owner, method)))
    assert text.count(old) == 1, "the fault is not planted"
    made = {}
    exec(text.replace(old, new), vars(sys.modules[owner.__module__]), made)
    monkeypatch.setattr(owner, method, made[method])


FAULTS = {
    "F_l of another row": (FakeRows, "gather", "low.cells[row]", "low.cells[0]"),
    "F_h of another row": (FakeRows, "scatter", "several.cells[row]", "several.cells[0]"),
    "F_l of the batch before": (GpuMachine, "_several", "together.gather(", "len("),
    "no F_h comes back": (GpuMachine, "_several", "together.scatter(row, one.low.side.high)", "pass"),
    "its beginning is not timed": (GpuMachine, "_several", "self.stream.record(one.low.start)", "pass"),
    "its end is not timed": (GpuMachine, "_several", "self.stream.record(one.low.end)", "pass"),
    "the next part does not wait": (GpuMachine, "_several", "self.stream.record(self._turn)\n        yield", "yield"),
    "graphs stay where they were captured": (SharedStream, "capture", "graph.stream = self._shared", "pass"),
    "what runs is still what was run to be warm": (GpuMachine, "_make", "stream.preparing = False", "pass"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(stage, monkeypatch, fault):
    plant(monkeypatch, *FAULTS[fault])
    with pytest.raises((AssertionError, RuleError, KeyError, RuntimeError)):
        runs(stage)


@pytest.mark.parametrize("graphs", [False, True], ids=["", "graphs"])
def test_f_h_of_a_batch_is_that_of_single_passes(tiny_network, one_thread, graphs):
    """This runs on the stand-in, whose arithmetic is the CPU's."""
    random = np.random.default_rng(0)
    with hub_at("stand-in") as device, lowlat.Hub(tiny_network, device=device, batch=3, graphs=graphs) as hub:
        machine, size = hub._machine, (48, 64)
        know(hub)
        seats = [hub.open(str(number), fps=1, size=size)._seat for number in range(3)]

        def start(seat):
            return seat.stages.start(random.integers(0, 256, (*size, 3), np.uint8), 0)

        passes = [Pass(seat, 0.0, size, hub._runner.call(partial(start, seat)), None) for seat in seats]

        def f_h(*groups):
            """F_h of each pass, where they go through S_h in these groups."""
            for one in passes:
                one.low.side.high.value.fill_(torch.nan)
            for group in groups:
                hub._runner.call(lambda group=group: list(machine.parts(group)))
            return torch.cat([one.low.side.high.value for one in passes])

        alone = f_h(*([one] for one in passes))
        until(lambda: machine.ready(passes), "a batch that is ready")
        together = f_h(passes)
        assert alone.isfinite().all() and alone.unique(dim=0).shape == alone.shape
        torch.testing.assert_close(together, alone)
        passes[1].forgotten = True
        assert f_h(passes).isnan().flatten(1).any(1).tolist() == [False, True, False]


def test_memory_of_several_is_laid_out_as_that_of_one():
    one = torch.rand(1, 4, 3, 5).contiguous(memory_format=torch.channels_last), torch.rand(1, 7, 2).half()
    several = Rows.several(one, 3)
    assert several[0].is_contiguous(memory_format=torch.channels_last) and several[1].dtype == torch.float16
    assert [tuple(tensor.shape) for tensor in several] == [(3, 4, 3, 5), (3, 7, 2)]
    low = Rows.low(SimpleNamespace(features=one), 3)
    other = SimpleNamespace(features=tuple(tensor + 1 for tensor in one))
    Rows.gather(2)(other, low)
    for rows, source in zip(low.features, other.features, strict=True):
        assert torch.equal(rows[2:], source) and not torch.equal(rows[:1], source)
