"""A stand-in for `torch.cuda` and for CUDA's driver on machines without a GPU.

Every call is held against the signature of the real function (`inspect`), streams come from pools of 32 as torch's do,
graphs replay what was computed while they were captured, in the same memory. Tensors said to be on "cuda" lie in the
host's memory, and work is done at once: what may run beside what is the fake device's to check.
"""

import ctypes
import inspect
import itertools
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch_wheels import sources

GPUS, MULTIPROCESSORS, POOL = 2, 132, 32
MODES = ("global", "thread_local", "relaxed")
CALLS = []
"""Every call of `torch.cuda` so far: its name as in "Event.record", its arguments and options."""


class OnHost(TorchFunctionMode):
    """Tensors that are asked for on a GPU are made in the host's memory, on the thread that enters it; the stand-in
    notes which GPU it was. A copy that doesn't wait is never on torch's own stream, which none of ours waits for.
    """

    def __init__(self, stand_in):
        super().__init__()
        self.stand_in = stand_in

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = dict(options or {})
        if function is torch.device:
            return function(*arguments, **options)
        if function is torch.Tensor.pin_memory:
            return arguments[0]
        beside = function is torch.Tensor.copy_ and options.get("non_blocking")
        if beside and self.stand_in.current() is self.stand_in.default:
            raise AssertionError("a copy on torch's own stream")
        if "device" in options:
            options["device"] = self.on_host(options["device"])
        return function(*map(self.on_host, arguments), **options)

    def on_host(self, value):
        """The CPU in place of a GPU; anything else as it is."""
        if isinstance(value, str) and value.startswith("cuda"):
            value = torch.device(value)
        if not isinstance(value, torch.device) or value.type != "cuda":
            return value
        assert value.index in (None, *range(GPUS)), f"invalid device ordinal: {value}"
        self.stand_in.asked.add(value)
        return torch.device("cpu")


class Recorder(TorchDispatchMode):
    """What a graph captures: every operator with its arguments and the memory of its results."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        self.nodes.append((function, arguments, options or {}, made))
        return made


@torch.inference_mode()
def replay(nodes):
    for function, arguments, options, made in nodes:
        # Below the modes: nobody is to record this again.
        again = function(*arguments, **options)
        for old, new in zip(tensors(made), tensors(again), strict=True):
            # A view, or what was written in place, is the same memory already.
            if old.data_ptr() != new.data_ptr():
                old.copy_(new)


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, (tuple, list)) else []


def signatures_of(name, real):
    """What `torch.cuda.<name>` takes: here, and in the versions whose wheels were given."""
    given = {source.version: source.cuda.get(name) for source in sources()}
    return {version: found for version, found in given.items() if found} | {torch.__version__: inspect.signature(real)}


def held_against(name, real, fake):
    """The fake, which refuses a call that the real one would refuse."""
    signatures = signatures_of(name, real)

    def call(*arguments, **options):
        for version, signature in signatures.items():
            try:
                signature.bind(*arguments, **options)
            except TypeError as error:
                raise AssertionError(f"torch.cuda.{name} of torch {version} takes no such call: {error}") from error
        CALLS.append((name, arguments, options))
        return fake(*arguments, **options)

    return call


def like(real):
    """A class decorator: constructor and methods take what those of the real class take."""

    def decorate(fake):
        new = "__new__" if "__new__" in vars(real) else "__init__"
        fake.__init__ = held_against(f"{real.__name__}.{new}", getattr(real, new), fake.__init__)
        for name, method in list(vars(fake).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(fake, name, held_against(f"{real.__name__}.{name}", getattr(real, name), method))
        return fake

    return decorate


class CudaStandIn:
    """What replaces the parts of `torch.cuda` by name, in `names`, and the driver's library, in `driver`.

    Attributes:
        taken: the handle of every stream that anybody has asked for, in order.
        asked: the GPUs on which anybody has asked for memory.
    """

    def __init__(self):
        self.taken, self.asked, self.entered = [], set(), 0
        self.streams = threading.local()
        self.capturing = None
        turn = {True: itertools.cycle(range(POOL)), False: itertools.cycle(range(POOL, 2 * POOL))}
        stand_in = self

        @like(torch.cuda.Stream)
        class Stream:
            def __init__(self, device=None, priority=0, **options):
                self.cuda_stream = 1000 + next(turn[priority < 0])
                stand_in.taken.append(self.cuda_stream)

            def wait_event(self, event):
                assert isinstance(event, Event)

            def synchronize(self):
                pass

        @like(torch.cuda.ExternalStream)
        class ExternalStream(Stream):
            def __init__(self, stream_ptr, device=None, **options):
                assert isinstance(stream_ptr, int) and stream_ptr and device.type == "cuda"
                self.cuda_stream = stream_ptr
                stand_in.taken.append(stream_ptr)

        @like(torch.cuda.Event)
        class Event:
            def __init__(self, enable_timing=False, blocking=False, interprocess=False, external=False):
                self.timed, self.at = enable_timing, None

            def record(self, stream=None):
                assert isinstance(stream, Stream), "on which stream?"
                self.at = time.perf_counter()

            def query(self):
                return True

            def synchronize(self):
                pass

            def elapsed_time(self, end_event):
                assert self.timed and end_event.timed and None not in (self.at, end_event.at)
                return (end_event.at - self.at) * 1e3

        @like(torch.cuda.CUDAGraph)
        class CUDAGraph:
            def __init__(self, keep_graph=False):
                self.nodes = []

            def replay(self):
                assert stand_in.current() is not stand_in.default, "a graph replayed on torch's own stream"
                replay(self.nodes)

        class Graph:
            def __init__(self, cuda_graph, pool=None, stream=None, capture_error_mode="global"):
                assert isinstance(cuda_graph, CUDAGraph) and isinstance(stream, Stream) and pool is not None
                assert capture_error_mode in MODES, capture_error_mode
                self.graph, self.stream = cuda_graph, stream

            def __enter__(self):
                assert stand_in.capturing is None, "two captures at once, of which each waits for the device first"
                stand_in.capturing = self.stream
                self.entered = stand_in.on(self.stream)
                self.entered.__enter__()
                self.recorder = Recorder(self.graph.nodes)
                self.recorder.__enter__()

            def __exit__(self, *raised):
                self.recorder.__exit__(*raised)
                self.entered.__exit__(*raised)
                stand_in.capturing = None

        @like(torch.cuda.GreenContext)
        class GreenContext:
            @staticmethod
            def create(*, num_sms=None, device_id=None):
                context = GreenContext.__new__(GreenContext)
                context.asked = num_sms
                return context

            def Stream(self):
                stream = Stream()
                stand_in.granted[stream.cuda_stream] = self.asked // 8 * 8
                return stream

        real = torch.cuda.GreenContext.create
        create = held_against("GreenContext.create", real, GreenContext.__dict__["create"].__func__)
        GreenContext.create = staticmethod(create)
        self.granted = {}
        self.driver = Driver(self)
        self.default = default = Stream()
        self.current = lambda: getattr(self.streams, "current", default)
        functions = {
            "is_available": lambda: True,
            "device_count": lambda: GPUS,
            "current_device": lambda: 0,
            "get_device_name": lambda device=None: "a stand-in",
            "get_device_capability": lambda device=None: (9, 0),
            "memory_allocated": lambda device=None: 0,
            "get_device_properties": lambda device=None: SimpleNamespace(multi_processor_count=MULTIPROCESSORS),
            "synchronize": self.synchronize,
            "current_stream": lambda device=None: default,
            "graph_pool_handle": lambda: object(),
            "stream": self.on,
        }
        self.names = {name: held_against(name, getattr(torch.cuda, name), f) for name, f in functions.items()}
        self.names |= {
            "Stream": Stream,
            "ExternalStream": ExternalStream,
            "Event": Event,
            "CUDAGraph": CUDAGraph,
            "graph": held_against("graph", torch.cuda.graph, Graph),
            "GreenContext": GreenContext,
            "device": held_against("device", torch.cuda.device, self.enter),
        }

    def synchronize(self, device=None):
        assert self.capturing is None, "a wait for the device while a stream captures"

    @contextmanager
    def enter(self, device):
        assert torch.device(device).index in range(GPUS)
        self.entered += 1
        try:
            yield
        finally:
            self.entered -= 1

    @contextmanager
    def on(self, stream):
        before = self.current()
        self.streams.current = stream
        try:
            yield
        finally:
            self.streams.current = before


class Driver:
    """The driver's functions that the runtime calls; arguments are of the types that C would take them for."""

    def __init__(self, stand_in):
        self.stand_in, self.handles, self.priorities = stand_in, itertools.count(0x7F0000001000, 16), {}

    def cuCtxGetStreamPriorityRange(self, least, greatest):
        assert self.stand_in.entered, "the calling thread has no context: which device is meant?"
        least._obj.value, greatest._obj.value = 0, -5
        return 0

    def cuStreamCreateWithPriority(self, handle, flags, priority):
        assert self.stand_in.entered, "the calling thread has no context: which device is meant?"
        assert isinstance(flags, ctypes.c_uint) and flags.value == 1, "a stream that waits for the default stream"
        assert isinstance(priority, ctypes.c_int) and -5 <= priority.value <= 0
        handle._obj.value = next(self.handles)
        self.priorities[handle._obj.value] = priority.value
        return 0

    def cuStreamGetGreenCtx(self, stream, context):
        assert isinstance(stream, ctypes.c_void_p)
        context._obj.value = stream.value
        return 0

    def cuGreenCtxGetDevResource(self, context, resource, kind):
        assert isinstance(context, ctypes.c_void_p) and kind.value == 1
        granted = self.stand_in.granted[context.value]
        resource[96:100] = granted.to_bytes(4, "little")
        return 0
