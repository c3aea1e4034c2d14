"""A CPU runtime: S_h in parts, in turns with the fast track on the same threads, so that neither disturbs the other."""

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
"""S_h in parts: it pauses behind each and returns F_h."""


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
    """A thread with torch's threads for all its cores, which does one thing at a time: what a frame asks for first,
    parts of S_h when their `TurnRule` lets them. It is the engine's worker.

    One team, no more OpenMP threads than cores: with more of them, libgomp hardly spins before it puts a thread to
    sleep, and each of a frame's many parallel loops has to wake one. Those of the thread that makes the team are let go
    for that; its next parallel loop would start new ones.

    Args:
        clock: the engine's.
        parts: S_h: F_l -> its parts, a generator that pauses behind each and returns F_h.
        cores: by default those at hand.

    Raises:
        ValueError: `cores` is not whole, or below 1.
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
        """Call ``function`` on the team's thread; its result, or what it raises.

        Args:
            begins, ends: whether a frame begins with this call, or ends with it. One that raises ends its frame.
        """
        call = _Call(function, arguments, self._clock.now(), begins, ends)
        with self._changed:
            if self._closed:
                raise RuntimeError("Team.run: expected an open team, got a closed one; make another engine")
            self._calls.append(call)
            self._changed.notify_all()
        return call.result.result()

    def run_higher(self, low: Any) -> Any:
        """S_h at one go, waited for: F_h. From here on the rule knows what each part costs."""
        return self.run(self._whole, self._parts(low))

    def submit(self, job: Job) -> None:
        """Have the parts of a pass run between frames. RuntimeError while there is one in flight."""
        with self._changed:
            if self._closed or self._pass is not None or self._landed is not None:
                state = "a closed one" if self._closed else "one with a job in flight"
                raise RuntimeError(f"Team.submit: expected an idle team, got {state}; poll until the job lands")
            self._pass = _Pass(job, self._parts(job.low), self._clock.now())
            self.rule.pass_begun()
            self._changed.notify_all()

    def poll(self, index: int) -> Outcome | None:
        """The pass that has landed, which is then forgotten; None while there is none."""
        with self._changed:
            landed, self._landed = self._landed, None
            return landed

    def forget(self) -> None:
        """The pass in flight ends behind the part that runs, and never lands; nor does one that is done."""
        with self._changed:
            self._pass = self._landed = None

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends the thread after what it is at; a pass in flight is lost. A RuntimeWarning says if it outlasts this."""
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
        """What to do now, as soon as there is something; None once the team is closed."""
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
        """The next part of a pass."""
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
        """A pass at one go."""
        for part in itertools.count():
            done, high = self._timed(part, parts)
            if done:
                return high

    def _timed(self, part: int, parts: Parts) -> tuple[bool, Any]:
        """Run part number ``part`` and keep its cost; whether it was the last one, and F_h then."""
        start, done, high = self._clock.now(), False, None
        try:
            next(parts)
        except StopIteration as last:
            done, high = True, last.value
        with self._changed:
            self.rule.part_ran(part, self._clock.now() - start)
        return done, high


class TeamStages:
    """The stages of a network, which several teams may share, on one: a frame begins with its S_l and ends with its
    labels."""

    def __init__(self, network: NetworkStages, team: Team) -> None:
        self.network, self.hold, self.higher = network, network.hold, team.run_higher
        self.lower = partial(team.run, network.lower, begins=True)
        self.classify = partial(team.run, network.classify, ends=True)
        self.propagate = partial(team.run, network.propagate, ends=True)
        self.measure = partial(team.run, network.measure)
