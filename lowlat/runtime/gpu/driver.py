"""Calls of CUDA's driver that torch lacks: streams that nobody shares, and how many multiprocessors a stream has.

torch takes its streams in turn from a pool of 32 for each priority, so the engines of a process would soon share them,
even while one of them captures a graph. The driver's library is there wherever torch finds a GPU.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any

import torch

# From cuda.h: a flag of streams, a kind of resource, the size of a `CUdevResource`, where its number of processors is.
_NON_BLOCKING, _MULTIPROCESSORS = 1, 1
_RESOURCE_BYTES, _COUNT_AT = 256, 96

alone = threading.RLock()
"""Held while a graph is captured, and while the whole device is waited for: CUDA forbids one during the other, and each
video of a process starts on its own thread."""
_idle: dict[tuple[int, bool], list[int]] = {}
_lock = threading.Lock()


@cache
def library() -> Any:
    """Load the driver's library."""
    return ctypes.CDLL("libcuda.so.1")


def take_stream(device: torch.device, *, urgent: bool) -> int:
    """Return the handle of a stream that nobody else has, of the highest priority if ``urgent``, else of the lowest.
    :func:`give_back` takes it back. RuntimeError if the driver can't make a stream."""
    with _lock:
        if handles := _idle.get((device.index, urgent)):
            return handles.pop()
    with alone, torch.cuda.device(device):
        # This makes the device's context current for the calling thread, which torch does by itself, the driver not.
        torch.cuda.synchronize()
        least, greatest, handle = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        _call("cuCtxGetStreamPriorityRange", ctypes.byref(least), ctypes.byref(greatest))
        priority = (greatest if urgent else least).value
        _call("cuStreamCreateWithPriority", ctypes.byref(handle), ctypes.c_uint(_NON_BLOCKING), ctypes.c_int(priority))
    return handle.value


def give_back(device: torch.device, handle: int, *, urgent: bool) -> None:
    """Leave a stream to the next :func:`take_stream`. It is never destroyed, since torch's allocators ask a stream for
    its progress when memory that it has used is freed, which may be later."""
    with _lock:
        _idle.setdefault((device.index, urgent), []).append(handle)


def multiprocessors_of(handle: int) -> int | None:
    """Return how many multiprocessors the green context of a stream has; None if the driver can't tell."""
    context, resource = ctypes.c_void_p(), ctypes.create_string_buffer(_RESOURCE_BYTES)
    try:
        _call("cuStreamGetGreenCtx", ctypes.c_void_p(handle), ctypes.byref(context))
        _call("cuGreenCtxGetDevResource", context, resource, ctypes.c_int(_MULTIPROCESSORS))
    except RuntimeError:
        return None
    return ctypes.c_uint.from_buffer(resource, _COUNT_AT).value


def _call(name: str, *arguments: Any) -> None:
    function = getattr(library(), name, None)
    if function is None:
        raise RuntimeError(f"{name}: expected a driver that has it, got an older one; update the NVIDIA driver")
    if error := function(*arguments):
        raise RuntimeError(f"{name}: CUDA's driver answers with error {error}")
