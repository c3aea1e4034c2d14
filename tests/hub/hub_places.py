"""Where a hub runs in tests, and one fake device that its videos share."""

import threading
from contextlib import contextmanager
from functools import wraps

import fake_device
import pytest
from fake_device import FakeDevice
from places import at

import lowlat.runtime.gpu.engine as gpu_engine_room


class View:
    """One video's device, on a fake device that all videos share; it has streams, events and buffers of its own."""

    def __init__(self, shared, number):
        self._shared, self._number = shared, number
        self.device = None

    def __getattr__(self, name):
        return getattr(self._shared, name)

    def stream(self, name, priority):
        stream = self._shared.stream(f"{name} of {self._number}", priority)
        # What a video captures waits for the video's own work. On the hub's streams, those of view 0, other threads go
        # on meanwhile: what is captured on one of them waits for that one alone.
        stream.video = self._number or stream.name
        return stream

    def event(self, name, *, timed=False):
        return self._shared.event(f"{name} of {self._number}", timed=timed)

    def buffer(self, name, make, *, host=False):
        return self._shared.buffer(f"{name} of {self._number}", make, host=host)


def views_of(shared):
    """Return a function that stands in for `CudaDevice`: it makes views of a fake device, numbered from 0, the hub's
    own first."""
    views = []

    def view(device):
        views.append(View(shared, len(views)))
        views[-1].device = device
        return views[-1]

    return view


@contextmanager
def hub_at(place, seed=7):
    """Do what `places.at` does. Videos on the fake device share one, so that it sees who waits for whom among them."""
    with at(place) as device, pytest.MonkeyPatch.context() as patch:
        if place == "fake":
            lock_fakes(patch)
            patch.setattr(gpu_engine_room, "CudaDevice", views_of(FakeDevice(seed)))
        yield device


def lock_fakes(patch):
    """Let only one thread at a time use the fake device, since the hub's thread and others use it at once, as they may
    a real one."""
    lock = threading.RLock()

    def locked(function):
        @wraps(function)
        def call(*arguments, **options):
            with lock:
                return function(*arguments, **options)

        return call

    for kind in (fake_device.FakeEvent, fake_device.FakeGraph, fake_device.FakeStream, FakeDevice):
        for name, function in list(vars(kind).items()):
            if callable(function) and not name.startswith("_"):
                patch.setattr(kind, name, locked(function))
