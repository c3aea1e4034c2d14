"""Tracing while other threads run networks: `torch.export` replaces the call of every module in the process, not only
in its own thread. For `lowlat.adoption.tracing`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch.fx.experimental import proxy_tensor

_one_at_a_time = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Within the block, `torch.export` traces what this thread does alone, and modules that other threads run are left
    as they are. Another thread that wants to trace waits."""
    # The class has no public name; without it a trace is as `torch.export` makes it.
    tracer = getattr(proxy_tensor, "_ModuleStackTracer", None)
    with _one_at_a_time:
        if tracer is None:
            yield
            return
        owner, call, read = threading.get_ident(), tracer.call_module, tracer.getattr

        def call_module(self, module, forward, args, kwargs):
            if threading.get_ident() != owner:
                return forward(*args, **kwargs)
            return call(self, module, forward, args, kwargs)

        def read_attribute(self, name, value, proxies):
            return value if threading.get_ident() != owner else read(self, name, value, proxies)

        with (
            mock.patch.object(tracer, "call_module", call_module),
            mock.patch.object(tracer, "getattr", read_attribute),
        ):
            yield
