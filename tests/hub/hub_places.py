"""One fake device that several videos share, and where a hub runs in tests."""

from contextlib import contextmanager

import pytest
from fake_device import FakeDevice
from places import at

import lowlat.runtime.gpu.engine as gpu_engine_room
from lowlat.runtime.gpu.device import Priority


class View:
    """One video's device on a fake device that all videos share, each with streams, events and buffers of its own."""

    def __init__(self, shared, number):
        self._shared, self._number, self.low = shared, number, None
        self.device = None

    def __getattr__(self, name):
        return getattr(self._shared, name)

    def stream(self, name, priority):
        if priority is Priority.LOW and self.low is not None:
            return self.low
        stream = self._shared.stream(f"{name} of {self._number}", priority)
        stream._stream = stream
        return stream

    def event(self, name, *, timed=False):
        return self._shared.event(f"{name} of {self._number}", timed=timed)

    def buffer(self, name, make, *, host=False):
        return self._shared.buffer(f"{name} of {self._number}", make, host=host)


@contextmanager
def hub_at(place, seed=7):
    """As `places.at`; videos of the fake device share one, so that it sees who waits for whom among them."""
    with at(place) as device, pytest.MonkeyPatch.context() as patch:
        if place == "fake":
            shared, views = FakeDevice(seed), []

            def view(device):
                views.append(View(shared, len(views)))
                views[-1].device = device
                return views[-1]

            patch.setattr(gpu_engine_room, "CudaDevice", view)
        yield device
