"""The CPU runtime under `segment`: parts of S_h take turns with the frames on the same threads."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lowlat.runtime.cpu import threads
from lowlat.runtime.cpu.turns import TurnRule
from lowlat.runtime.ending import EngineThread
from lowlat.runtime.protocols import Clock, Job, Outcome
from lowlat.runtime.stages import NetworkStages

Parts = Generator[None, None, Any]
"""A pass of S_h as a generator, which pauses behind each part and returns F_h."""


@dataclass
class _Call:
    function: Callable[..., Any]
    arguments: tuple
    asked_ms: float
    begins: bool
    ends: bool
    result: Future = field(default_factory=Future)


@dataclass
class _Pass:
    job: Job
    parts: Parts
    start_ms: float
    part: int = 0


class Team:
    """The engine's worker: one thread, with torch's threads on all cores, does one thing at a time. What a frame asks
    for comes first; parts of S_h run when the `TurnRule` lets them.

    The process should have no more OpenMP threads than cores: with more of them libgomp hardly spins before it puts a
    thread to sleep, and each of a frame's many parallel loops has to wake it. So the OpenMP threads of the thread that
    makes the team are ended; its next parallel loop would start new ones.

    Args:
        clock: the engine's clock.
        parts: S_h: takes F_l and returns the generator of its parts.
        cores: how many threads to use, by default one for each core at hand.

    Raises:
        ValueError: `cores` is not a whole number of at least 1.
    """

    def __init__(self, clock: Clock, parts: Callable[[Any], Parts], cores: int | None = None) -> None:
        self.cores = threads.cores_at_hand() if cores is None else cores
        threads.check_cores("Team", self.cores, "leave it out to use those at hand")
        self.rule = TurnRule()
        self._clock, self._parts = clock, parts
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._pass: _Pass | None = None
        self._landed: Outcome | None = None
        self._closed = False
        threads.let_go_of_threads()
        self._thread = EngineThread("stages", self._work, lambda: threads.set_own_threads(self.cores))

    def run(self, function: Callable[..., Any], *arguments: Any, begins: bool = False, ends: bool = False) -> Any:
        """Call ``function`` on the team's thread, wait for it, and return its result or raise its error.

        Args:
            begins, ends: whether this call begins or ends a frame. A call that raises ends its frame too.
        """
        call = _Call(function, arguments, self._clock.now(), begins, ends)
        with self._changed:
            if self._closed:
                raise RuntimeError("Team.run: expected an open team, got a closed one; make another engine")
            self._calls.append(call)
            self._changed.notify_all()
        return call.result.result()

    def run_higher(self, low: Any) -> Any:
        """Run a whole pass of S_h and return F_h. The rule learns from it what each part costs."""
        return self.run(self._whole, self._parts(low))

    def submit(self, job: Job) -> None:
        """Begin a pass, whose parts run between frames; RuntimeError while another one is under way."""
        with self._changed:
            if self._closed or self._pass is not None or self._landed is not None:
                state = "a closed one" if self._closed else "one with a job in flight"
                raise RuntimeError(f"Team.submit: expected an idle team, got {state}; poll until the job lands")
            self._pass = _Pass(job, self._parts(job.low), self._clock.now())
            self.rule.pass_begun()
            self._changed.notify_all()

    def poll(self, index: int) -> Outcome | None:
        """Return the pass that has landed, once; None while there is none."""
        with self._changed:
            landed, self._landed = self._landed, None
            return landed

    def forget(self) -> None:
        """Give up the pass under way after the part that is running, or the one that is done: it never lands."""
        with self._changed:
            self._pass = self._landed = None

    def close(self, timeout_s: float = 10.0) -> None:
        """End the thread after its present work; a pass under way is lost. A RuntimeWarning says if it takes longer."""
        with self._changed:
            self._closed, self._pass, self._landed = True, None, None
            self._changed.notify_all()
        self._thread.wait("Team.close: a stage", timeout_s)

    def _work(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
                # A reference kept while waiting would keep F_l of a past frame in memory.
                del work
        finally:
            with self._changed:
                self._closed = True
            # Calls are left only where this thread has broken down; their callers must not wait for ever.
            why = "Team.run: expected a team at work, got one whose thread broke down; make another engine"
            for call in self._calls:
                call.result.set_exception(RuntimeError(why))

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do and return it; None once the team is closed."""
        with self._changed:
            while True:
                running = self._pass
                if self._calls and not (running and self.rule.overdue(running.part)):
                    if self._calls[0].begins:
                        self.rule.frame_begun(self._calls[0].asked_ms)
                    call = self._calls.popleft()
                    return lambda: self._answer(call)
                if self._closed:
                    return None
                wait = self.rule.wait(running.part, self._clock.now()) if running else math.inf
                if wait <= 0:
                    return lambda: self._turn(running)
                self._changed.wait(None if wait == math.inf else wait / 1e3)

    def _answer(self, call: _Call) -> None:
        result, error = None, None
        try:
            result = call.function(*call.arguments)
        except BaseException as raised:
            error = raised
        if call.ends or error is not None:
            # The rule must know that the frame has ended before the caller does, who may begin the next one at once.
            with self._changed:
                self.rule.frame_ended(self._clock.now())
        if error is None:
            call.result.set_result(result)
        else:
            call.result.set_exception(error)

    def _turn(self, running: _Pass) -> None:
        """Run the next part of a pass; if it is the last, the pass has landed."""
        high, error, done = None, None, False
        try:
            done, high = self._timed(running.part, running.parts)
        except BaseException as raised:
            error, done = raised, True
        with self._changed:
            running.part += 1
            if done and self._pass is running:
                self._pass = None
                self._landed = Outcome(running.job, high, error, running.start_ms, self._clock.now())

    def _whole(self, parts: Parts) -> Any:
        """Run all parts of a pass and return F_h."""
        for part in itertools.count():
            done, high = self._timed(part, parts)
            if done:
                return high

    def _timed(self, part: int, parts: Parts) -> tuple[bool, Any]:
        """Run part number ``part`` and note its cost. Return whether it was the last part, and F_h if so."""
        start, done, high = self._clock.now(), False, None
        try:
            next(parts)
        except StopIteration as last:
            done, high = True, last.value
        with self._changed:
            self.rule.part_ran(part, self._clock.now() - start)
        return done, high


class TeamStages:
    """Runs the stages of a network, which several teams may share, on one. A frame lasts from its S_l to its labels."""

    def __init__(self, network: NetworkStages, team: Team) -> None:
        self.network, self.hold, self.higher = network, network.hold, team.run_higher
        self.lower = partial(team.run, network.lower, begins=True)
        self.classify = partial(team.run, network.classify, ends=True)
        self.propagate = partial(team.run, network.propagate, ends=True)
        self.measure = partial(team.run, network.measure)
