"""A device without hardware that checks the rules of use, and a network on it whose values say where they came from.

Work is done in any order that the streams and events allow. Vector clocks tell what must come before what, so that a
missing event is found whatever the order was. Breaking one of these rules is a `RuleError`:

- a buffer is read after the event behind its writer, written after the events behind its readers and writers;
- graphs of one pool belong to one stream, and run one after the other;
- once sealed, nothing is made: no buffer, event, stream or graph;
- the host never waits for what can't happen.
"""

import random
from collections import Counter, deque

from lowlat.runtime.gpu.device import Buffer


class RuleError(BaseException):
    """Raised if a rule is broken. It is no `Exception`, so that no handler of the runtime swallows it."""


def joined(clock, other):
    return {name: max(clock.get(name, 0), other.get(name, 0)) for name in {*clock, *other}}


class FakeEvent:
    def __init__(self, device, name, timed):
        self.device, self.name, self.timed = device, name, timed
        self.recorded = self.completed = 0
        self.clock, self.reached_ms = {}, None

    def done(self):
        self.device.progress()
        if self.completed < self.recorded:
            return False
        self.device.host_clock = joined(self.device.host_clock, self.clock)
        return True

    def wait(self):
        self.device.waits.append(self.name)
        self.device.log.append(("host", "wait", self.name))
        while self.completed < self.recorded:
            self.device.step() or self.device.broken(f"the host waits for {self.name!r}, which nothing leads to")
        self.device.host_clock = joined(self.device.host_clock, self.clock)

    def ms(self):
        if not self.timed or self.completed < self.recorded or not self.recorded:
            raise RuleError(f"the time of {self.name!r} is read, which is not timed or not reached")
        return self.reached_ms

    def ms_since(self, start):
        return self.ms() - start.ms()


class FakeGraph:
    def __init__(self, stream, pool, work, reads, writes):
        self.stream, self.pool, self.work, self.reads, self.writes = stream, pool, work, reads, writes

    def replay(self):
        self.stream.device.replays += 1
        self.stream.enqueue_work(self.work, self.reads, self.writes, also_writes=(self.pool,))


class FakeStream:
    def __init__(self, device, name, priority):
        self.device, self.name, self.priority, self.video = device, name, priority, None
        self.queue, self.clock = deque(), {}

    def run(self, work, reads, writes):
        self.device.refuse(self.name)
        self.enqueue_work(work, reads, writes)

    def copy(self, source, target):
        self.enqueue_work(lambda x, y: y.copy_(x), (source,), (target,))

    def wait(self, event):
        if self.device.dropped(self.name, "wait", event.name):
            return
        self.device.log.append((self.name, "wait", event.name))
        self.clock = joined(self.clock, event.clock)
        self.queue.append(("wait", event, event.recorded))

    def record(self, event):
        if self.device.dropped(self.name, "record", event.name):
            return
        if not event.timed:
            self.device.log.append((self.name, "record", event.name))
        self.tick()
        event.recorded += 1
        event.clock = dict(self.clock)
        self.queue.append(("record", event, event.recorded))

    def capture(self, pool, work, reads, writes):
        self.device.make(f"a graph of pool {pool}")
        owner = self.device.pools.setdefault(pool, (self, Buffer(f"pool {pool}", None)))
        if owner[0] is not self:
            raise RuleError(f"pool {pool!r} of {owner[0].name!r} is captured into on {self.name!r}")
        # Videos that share a device go on beside each other: a capture waits for its own alone.
        if any(stream.queue for stream in self.device.streams if stream.video == self.video):
            raise RuleError(f"{self.name!r} captures while the device is at work")
        return FakeGraph(self, owner[1], work, reads, writes)

    def tick(self):
        self.device.tick_host()
        self.clock = joined(self.clock, self.device.host_clock)
        self.clock[self.name] = self.clock.get(self.name, 0) + 1

    def enqueue_work(self, work, reads, writes, also_writes=()):
        self.tick()
        label = f"{self.name!r} at its step {self.clock[self.name]}"
        self.device.access(label, self.name, self.clock, reads, (*writes, *also_writes))
        names = [buffer.name for buffer in writes]
        self.device.log.append((self.name, "run", ", ".join(names)))
        self.queue.append(("run", work, [buffer.value for buffer in (*reads, *writes)]))

    def runnable(self):
        if not self.queue:
            return False
        kind, what, arguments = self.queue[0]
        return kind != "wait" or what.completed >= arguments

    def execute(self):
        kind, what, arguments = self.queue.popleft()
        self.device.time_ms += 1
        if kind == "run":
            what(*arguments)
        elif kind == "record":
            what.completed, what.reached_ms = max(what.completed, arguments), self.device.time_ms


class FakeDevice:
    """A device whose streams progress at random. `weights` says how readily, by the stream's name; `drop` names calls
    that are left out, as (stream, "wait" or "record", event without its number), as by a runtime that forgot them."""

    def __init__(self, seed=0, weights=None, drop=None):
        self.random = random.Random(seed)
        self.weights, self.drop = weights or {}, drop
        self.streams, self.pools, self.log, self.waits = [], {}, [], []
        self.host_clock = {"host": 0}
        self.accesses = {}
        self.sealed = False
        self.made, self.replays, self.time_ms, self.left_out = Counter(), 0, 0, 0
        # Raised by the next `run` on a stream, as an allocation would.
        self.refusals = {}
        # What happens on the host meanwhile, on another thread.
        self.beside = None

    def stream(self, name, priority):
        self.make("a stream")
        self.streams.append(FakeStream(self, name, priority))
        return self.streams[-1]

    def event(self, name, *, timed=False):
        self.make("an event")
        return FakeEvent(self, name, timed)

    def buffer(self, name, make, *, host=False):
        self.make("a buffer")
        value = make()
        if isinstance(value, list):
            raise RuleError(f"{name!r} can be given other memory, which no graph captured before would find")
        return Buffer(name, value, host)

    def host(self, work, reads=(), writes=()):
        self.tick_host()
        for buffer in (*reads, *writes):
            if not buffer.host:
                raise RuleError(f"the host touches {buffer.name!r}, which is the device's")
        self.access("the host", "host", self.host_clock, reads, writes)
        return work(*(buffer.value for buffer in (*reads, *writes)))

    def synchronize(self):
        while any(stream.queue for stream in self.streams):
            self.step() or self.broken("the streams wait for each other")
        for stream in self.streams:
            self.host_clock = joined(self.host_clock, stream.clock)

    def close(self):
        self.synchronize()

    def now(self):
        self.time_ms += 0.001
        return self.time_ms

    def make(self, what):
        if self.sealed:
            raise RuleError(f"{what} is made after warm-up")
        self.made[what] += 1

    def broken(self, why):
        raise RuleError(why)

    def refuse(self, stream):
        if error := self.refusals.pop(stream, None):
            raise error

    def dropped(self, stream, kind, event):
        if self.drop != (stream, kind, event.rstrip("0123456789")):
            return False
        self.left_out += 1
        return True

    def tick_host(self):
        self.host_clock["host"] += 1

    def access(self, label, place, clock, reads, writes):
        """Check reads and writes at `clock` against earlier ones, and note them. An earlier access happened before this
        one if its number is not above the clock's entry of its place."""
        for buffer in reads:
            written, readers = self.accesses.setdefault(buffer, (None, []))
            if written and clock.get(written[0], 0) < written[1]:
                raise RuleError(f"{label} reads {buffer.name!r} before the event behind its writer, {written}")
            readers.append((place, clock[place]))
        for buffer in writes:
            written, readers = self.accesses.get(buffer, (None, []))
            for name, number in [*([written] if written else []), *readers]:
                if clock.get(name, 0) < number:
                    raise RuleError(f"{label} writes {buffer.name!r} while {name!r} (step {number}) is using it")
            self.accesses[buffer] = ((place, clock[place]), [])

    def step(self):
        """Let one stream do one thing; return False if none can."""
        ready = [stream for stream in self.streams if stream.runnable()]
        if not ready:
            return False
        weights = [self.weights.get(stream.name, 1) for stream in ready]
        self.random.choices(ready, weights)[0].execute()
        return True

    def finish(self):
        """Let the streams do everything there is to do."""
        while self.step():
            pass

    def progress(self):
        """Let some time pass, in which streams progress a little, or much."""
        if self.beside is not None and self.random.random() < 0.5:
            beside, self.beside = self.beside, None
            beside()
            self.beside = beside
        for _ in range(self.random.choice((0, 1, 3, 10, 100))):
            if not self.step():
                break


class Cell:
    """Stands for a tensor; it holds any value."""

    def __init__(self, value=None):
        self.value = value

    def copy_(self, other):
        self.value = other.value


class FakePrograms:
    """A network on cells: F_l of frame t is ("low", t), F_h is ("high", t), and labels say what they were made from."""

    def __init__(self, values=None):
        self.values = values or {}
        self.room = 10**9
        self.decided = []

    def size_of(self, frame):
        if not isinstance(frame, int):
            raise ValueError(f"FakePrograms: expected a number, got {frame!r}")
        return (8, 8) if frame < 1000 else (9, 9)

    def makers(self, size):
        def make():
            self.room -= 1
            if self.room < 0:
                raise MemoryError("2 GiB wanted, 1 GiB free")
            return Cell()

        self.make = make
        names = "frame image low labels labels_out scores scores_out value value_out high kept base place propagated"
        return dict.fromkeys(names.split(), make)

    def scratch(self, size, segments):
        return [(part % 2, self.make) for part in range(segments - 1)]

    def load(self, frame):
        return lambda cell: setattr(cell, "value", frame)

    def lower(self, image, low):
        low.value = ("low", image.value)

    def hold(self, low, kept, base, place):
        kept.value = low.value
        self.rebase(low, base, place)

    def rebase(self, low, base, place):
        base.value = place.value = low.value and low.value[1]

    def carry(self, before, after, high):
        if None not in (before.value, after.value, high.value):
            kind, source, at = high.value
            if (kind, at) != ("high", before.value):
                raise RuleError(f"{high.value} carried from {before.value}")
            high.value = (kind, source, after.value)

    def keep(self, propagated, high):
        high.value = propagated.value

    def higher(self, segments):
        def part(number):
            def work(source, *memory):
                *before, after = memory
                value = before[0].value if before else source.value and ("0 of S_h", source.value[1])
                if value is not None:
                    assert value == (f"{number} of S_h", source.value[1]), f"{value} in part {number}"
                done = number == segments - 1
                after.value = value and (("high", value[1], value[1]) if done else (f"{number + 1} of S_h", value[1]))

            return work

        return [part(number) for number in range(segments)]

    def propagate(self, base, high, low, propagated, labels, scores):
        propagated.value = high.value
        if None not in (base.value, high.value, low.value):
            kind, source, at = high.value
            if at != base.value:
                raise RuleError(f"F_h of frame {at} beside F_l of frame {base.value}")
            propagated.value = (kind, source, low.value[1])
            labels.value = scores.value = ("propagated", low.value[1], base.value, source)

    def classify(self, high, labels, scores):
        if high.value is not None:
            labels.value = scores.value = ("classified", high.value[1])

    def select(self, signal):
        def work(kept, low, value):
            if None not in (kept.value, low.value):
                value.value = (kept.value[1], low.value[1])

        return work

    def labels(self, cell):
        return cell.value

    def scores(self, size, asked):
        return lambda cell: (asked, size, cell.value)

    def number(self, cell):
        key, index = cell.value
        self.decided.append((key, index))
        return self.values.get(index, 0.0) if key < index else 0.0
