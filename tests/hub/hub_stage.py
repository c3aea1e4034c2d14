"""Several videos on one fake GPU, whose streams progress in random orders, while the test says when the loop takes a
turn."""

import math
from types import SimpleNamespace

from fake_device import Cell, FakeDevice, FakePrograms
from hub_places import views_of

import lowlat.runtime.gpu.engine as gpu_engine_room
from lowlat.hub.costs import Costs
from lowlat.hub.gpu import gpu_video
from lowlat.hub.gpu_machine import GpuMachine
from lowlat.hub.loop import Loop
from lowlat.hub.passes import Passes
from lowlat.hub.seat import Seat
from lowlat.hub.turns import PartRule
from lowlat.runtime import Captured
from lowlat.schedule import Every, Schedule


class Several:
    """Stands for a tensor of several frames, with a cell for each."""

    def __init__(self, count):
        self.cells = [Cell() for _ in range(count)]


class FakeRows:
    """`lowlat.hub.together.Rows` on cells."""

    def low(self, source, count):
        return Several(count)

    several = low

    def gather(self, row):
        return lambda source, low: low.cells[row].copy_(source)

    def scatter(self, row):
        return lambda several, high: high.copy_(several.cells[row])


class Programs(FakePrograms):
    """Everything that a hub's engines ask of a prepared network, S_h of several frames included."""

    def higher(self, segments):
        def of_all(work):
            def run(source, *memory):
                if not isinstance(source, Several):
                    return work(source, *memory)
                for cells in zip(source.cells, *(several.cells for several in memory), strict=True):
                    work(*cells)

            return run

        return [of_all(work) for work in super().higher(segments)]

    def __init__(self, graphs):
        super().__init__()
        self.device, self.options = "cuda:0", SimpleNamespace(graphs=graphs)
        self.network = SimpleNamespace(legend=None)


class Stage:
    """Videos on a shared fake device, with a loop that takes its turns when the test says so."""

    def __init__(self, monkeypatch, seed, videos, graphs=False, policy=None, batch=1, **device):
        self.device = FakeDevice(seed, **device)
        monkeypatch.setattr(gpu_engine_room, "CudaDevice", views_of(self.device))
        programs = Programs(graphs)
        self.programs, self.machine = programs, GpuMachine(programs, rows=FakeRows())
        machine = self.machine
        rule, costs = PartRule(), Costs()
        self.passes = Passes(machine, self.device, costs, rule, batch)
        self.loop = Loop(self.device, self.passes, costs, rule)
        self.results = {}

        def build(seat, schedule):
            return gpu_video(seat, schedule, programs, machine)

        self.seats = []
        for number in range(videos):
            kept = self.results[number] = []
            schedule = Schedule(policy or Every(3), decision="deferred")
            seat = Seat(str(number), schedule, self.passes, build, self.device, on_result=kept.append)
            self.seats.append(seat)
            self.loop.join(seat)

    def put(self, number, index):
        # Frames of different videos never look alike.
        self.seats[number].put(Captured(index, 0.0, 100 * (number + 1) + index))

    def turns(self, count):
        for _ in range(count):
            self.turn()

    def turn(self):
        """Take a turn, and note for how long it says there is nothing to do; return whether there was anything to
        do."""
        wait = self.loop.turn()
        if wait < math.inf:
            self.device.time_ms += wait
        return wait < math.inf

    def until_labelled(self, number, frames):
        for _ in range(10_000):
            if self.seats[number].labelled + self.seats[number].failed >= frames:
                return
            self.turn()
        raise AssertionError("nothing comes of a frame")

    def check(self):
        for number, results in self.results.items():
            for result in results:
                assert result.labels is not None, "labels made from nothing"
                kind, frame, *sources = result.labels
                base = 100 * (number + 1)
                assert frame == base + result.index, "labels of another frame, or of another video"
                if kind == "propagated":
                    assert sources[1] == base + result.index - result.age, "features of another frame or video"
                    assert base <= sources[0] < frame
                else:
                    assert result.startup and result.age == 0
