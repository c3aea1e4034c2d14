"""Where a network runs in tests: the CPU, a fake GPU in two ways, and a GPU where there is one.

- `fake`: streams that get on in random orders and check who waits for whom (`fake_device`).
- `stand-in`: the real file for `torch.cuda`, on a stand-in for it (`cuda_stand_in`).
"""

import threading
from contextlib import contextmanager

import pytest
import torch
from cuda_stand_in import CudaStandIn, OnHost
from fake_device import FakeDevice

import lowlat.runtime.gpu.engine as gpu_engine_room
from lowlat.runtime.gpu import driver

GPUS = ["fake", "stand-in", *(["cuda"] if torch.cuda.is_available() else [])]
PLACES = ["cpu", *GPUS]


@contextmanager
def at(place):
    """Makes `device="cuda"` mean that place for the block, and gives the name of the device to ask for."""
    with pytest.MonkeyPatch.context() as patch:
        if place in ("cpu", "cuda"):
            if place == "cuda":
                patch.setattr(torch.backends.cudnn, "allow_tf32", False)
                patch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
            yield place
            return
        stand_in = CudaStandIn()
        for name, fake in stand_in.names.items():
            patch.setattr(torch.cuda, name, fake)
        patch.setattr(driver, "library", lambda: stand_in.driver)
        patch.setattr(driver, "_idle", {})
        if place == "fake":
            # Without a thread of its own: parts of S_h are launched while the host asks for something.
            patch.setattr(gpu_engine_room, "CudaDevice", fake_device)
            patch.setattr(gpu_engine_room, "InTurns", unthreaded)
        patch.setattr(threading.Thread, "start", on_host(threading.Thread.start, stand_in))
        with OnHost(stand_in):
            yield "cuda"


def on_host(start, stand_in):
    """`Thread.start`, for threads in the mode that each has to enter for itself."""

    def started(thread):
        run = thread.run

        def entered():
            # It refers to the thread.
            vars(thread).pop("run", None)
            with OnHost(stand_in):
                run()

        thread.run = entered
        start(thread)

    return started


def fake_device(device):
    made = FakeDevice(7)
    made.device, made.low = device, None
    return made


def unthreaded(device, segments, make=gpu_engine_room.InTurns):
    turns = make(device, segments, threaded=False)
    device.beside = turns.advance
    return turns
