"""`GpuMachine`: S_h of all videos of a hub on a GPU, part by part on one stream of low priority, some of it in
batches."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from functools import partial

from lowlat.hub.beside import Beside, at_once
from lowlat.hub.passes import Parts, Pass
from lowlat.hub.shared import Asked, SharedStream
from lowlat.hub.together import Rows, Together
from lowlat.runtime.gpu import engine as room
from lowlat.runtime.gpu.device import Priority
from lowlat.runtime.gpu.isolation import SEGMENTS
from lowlat.runtime.gpu.programs import NetworkPrograms


class GpuMachine:
    """Runs S_h on the hub's stream. It launches a part when asked to, and the host never waits for it.

    Args:
        programs: the network's stages on the device.
        beside: does the work of making batches ready.
        rows: makes the copies between the memory of one frame and that of several.
    """

    def __init__(self, programs: NetworkPrograms, beside: Beside = at_once, rows: Rows | None = None) -> None:
        self._device = device = room.CudaDevice(programs.device)
        self.stream = device.stream("S_h of all", Priority.LOW)
        self._turn = device.event("turn")
        # Batches are captured on this stream, one after another.
        self._own, self._alone = device.stream("S_h of several", Priority.LOW), threading.Lock()
        self._programs, self._beside, self._rows = programs, beside, rows or Rows()
        # Batches by the size of frames and the number of passes; None while one is made, or if it could not be.
        self._together: dict[tuple[Hashable, int], Together | None] = {}
        self._making: set[Future] = set()
        self._lock = threading.Lock()
        self._closed = False

    def idle(self) -> bool:
        return self._turn.done()

    def close(self) -> None:
        """Frees the stream and the memory. The videos must have been closed."""
        with self._lock:
            self._closed, making = True, [*self._making]
        for made in making:
            made.exception()
        self._device.close()
        self._together.clear()

    def ready(self, passes: Sequence[Pass]) -> bool:
        if len(passes) == 1:
            return True
        key = passes[0].size, len(passes)
        with self._lock:
            if key in self._together:
                return self._together[key] is not None
            self._together[key] = None
        self._apart(partial(self._make, key, passes[0].low))
        return self._together.get(key) is not None

    def keep(self, sizes: Collection[Hashable]) -> None:
        with self._lock:
            gone = [self._together.pop(key) for key in list(self._together) if key[0] not in sizes]
        if any(gone):
            # Work under way may still read the memory.
            self._apart(partial(self._let_go, gone))

    def parts(self, passes: Sequence[Pass]) -> Parts:
        if len(passes) > 1:
            return self._several(passes, self._together[passes[0].size, len(passes)])
        return self._single(passes[0].low)

    def _single(self, asked: Asked) -> Parts:
        try:
            for number, part in enumerate(asked.parts):
                part()
                self.stream.record(self._turn)
                if number < len(asked.parts) - 1:
                    yield
        finally:
            self.stream.record(asked.landed)
        return [asked.side]

    def _several(self, passes: Sequence[Pass], together: Together) -> Parts:
        # `_turn` tells when a batch is complete. If it fails, single passes follow it on the same stream.
        for one in passes:
            if one.low.start is not None:
                self.stream.record(one.low.start)
        together.gather([one.low.source for one in passes])
        for part in range(len(together) - 1):
            together.launch(part)
            self.stream.record(self._turn)
            yield
        together.launch(len(together) - 1)
        for row, one in enumerate(passes):
            if not one.forgotten:
                together.scatter(row, one.low.side.high)
                if one.low.end is not None:
                    self.stream.record(one.low.end)
        self.stream.record(self._turn)
        return [one.low.side for one in passes]

    def _apart(self, work: Callable[[], None]) -> None:
        """Has work done beside the hub's thread, unless the machine is closed."""
        with self._lock:
            if self._closed:
                return
        made = self._beside(work)
        with self._lock:
            self._making.add(made)
        made.add_done_callback(self._making.discard)

    def _make(self, key: tuple[Hashable, int], like: Asked) -> None:
        count, stream = key[1], SharedStream(self.stream, self._own)
        stream.preparing = True
        try:
            with self._alone:
                made = Together(self._device, stream, self._programs, self._rows, like, count, SEGMENTS)
        except Exception as error:
            words = f"Hub: passes of S_h run one by one, not in batches of {count}, which can't be made: {error!r}"
            warnings.warn(words, RuntimeWarning, stacklevel=2)
            return
        stream.preparing = False
        with self._lock:
            if key in self._together:
                self._together[key] = made

    def _let_go(self, gone: list[Together | None]) -> None:
        self._device.synchronize()
        gone.clear()
