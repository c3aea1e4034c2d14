"""The schedule: a pure state machine, events in, actions out. Every runtime carries out the same one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from lowlat.schedule import events
from lowlat.schedule.policies import Policy
from lowlat.schedule.state import Flight, Phase, Plan, VideoState

DEFAULT_REBASE = 3
"""Frames. Kernels reach as far as a street scene moves in three or four frames."""
DEFAULT_STEPS = 4
"""Bases during one pass of S_h: enough for a pass that lands 15 frames late."""
DEFAULT_AGE_BOUND = 10
"""Frames. The simulated motion that propagation is trained on is that of 2 to 10 frames."""
LONGEST_BACKOFF = 8
"""The most frames between two tries while S_h keeps failing."""

Step = tuple[VideoState, tuple[events.Action, ...]]


class Mode(str, Enum):
    """How a key frame is served."""

    BLOCKING = "blocking"
    """S_h on the critical path."""
    LOW_LATENCY = "low-latency"
    """Fast track at once, S_h in the background (paper, section 4.4)."""


class Decision(str, Enum):
    """Where the key frame decision is measured."""

    CRITICAL = "critical"
    """Before the labels."""
    DEFERRED = "deferred"
    """After the labels: every frame takes the same fast track, so its labels needn't wait for the decision."""


class OnCut(str, Enum):
    """How a frame behind a scene cut is served in low-latency mode."""

    DEGRADE = "degrade"
    """The labels are on time and marked degraded, and S_h is launched at once."""
    BLOCK = "block"
    """The labels are late and right: S_h runs on the critical path. Two passes never run at once, so while S_h is busy
    frames are on time and degraded, and the first frame after the landing is the one that blocks."""


@dataclass(frozen=True)
class Schedule:
    """Says what to do with each frame. It holds options only; the state of a video is passed in and returned:

        state, actions = schedule.advance(state, event)

    Events of one frame: `FrameBegun`; `Measured` in answer to `Decide`; `Landed` or `Failed` in answer to `RunHigher`;
    `Emitted` in answer to `Emit`. A background pass reports `Landed` or `Failed` between frames, so its features are
    used from the first frame that begins after it is complete.

    Age bound. A frame whose features are `age_bound` frames old or older becomes a key frame whatever the policy says,
    as soon as S_h is free. So features older than the bound are shown only while a pass of S_h is under way, or while
    the next try after a failure is due. In low-latency mode no features are older than max(age_bound, d) + d, where d
    is the delay in frames from a launch to its landing; in blocking mode all are younger than the bound. Nothing better
    can be promised without waiting for S_h.

    Degraded. Labels are marked so while the features come from before a scene cut; from a failure of S_h to its next
    landing; and once their age exceeds twice the bound, which means that a pass has taken longer than the bound itself
    (S_h hangs, or is far too slow). With a deferred decision a cut is known after the labels of its first frame.

    Failures. S_h is tried again on the next frame; if it keeps failing, after 2, 4, then every 8 frames. The cached
    features stay. After a failure on the very first frame there is nothing to show (`GiveUp`), and the next frame
    starts up again.

    Rebasing. A kernel reaches only so many positions, so features travel a long way in steps: a frame that is `rebase`
    frames or more from the base becomes the base itself, after its labels are out. While a pass of S_h is under way,
    its F_h is carried along these bases before it lands, and the last one it has reached is then the base. A pass takes
    at most `steps` bases. If S_h hangs, later frames are propagated from the last of them.

    Args:
        policy: decides which frames are key frames.
        mode: how a key frame is served.
        decision: when the policy's value is measured; nothing is measured for a policy without a signal.
        age_bound: frames; None for no bound.
        on_cut: what to do behind a scene cut; only a policy with a `cut` finds one.
        rebase: frames; None propagates from key frames alone, as published.
        steps: the most bases during one pass of S_h; with 0 frames are rebased only while S_h is idle.

    Raises:
        ValueError: an unknown word, or options that contradict each other.
    """

    policy: Policy
    mode: Mode = Mode.LOW_LATENCY
    decision: Decision = Decision.CRITICAL
    age_bound: int | None = DEFAULT_AGE_BOUND
    on_cut: OnCut = OnCut.DEGRADE
    rebase: int | None = DEFAULT_REBASE
    steps: int = DEFAULT_STEPS

    def __post_init__(self) -> None:
        for name, kind in (("mode", Mode), ("decision", Decision), ("on_cut", OnCut)):
            object.__setattr__(self, name, _word(name, kind, getattr(self, name)))
        deferred, bound = self.decision is Decision.DEFERRED, self.age_bound
        interval = getattr(self.policy, "interval", None)
        _expect(
            hasattr(self.policy, "is_key"),
            f"a policy such as Adaptive(0.2) or Every(5), got {self.policy!r}; import one from lowlat.schedule",
        )
        _expect(
            not (deferred and self.mode is Mode.BLOCKING),
            "decision='critical' in blocking mode, where labels wait for it, got decision='deferred'; use "
            "mode='low-latency' or decision='critical'",
        )
        _expect(
            not (deferred and self.on_cut is OnCut.BLOCK),
            "decision='critical' with on_cut='block', got decision='deferred', which finds a cut after its labels are "
            "out; use decision='critical' or on_cut='degrade'",
        )
        _expect(bound is None or bound >= 1, f"age_bound of at least 1 frame, got {bound!r}; use None for no bound")
        _expect(
            self.rebase is None or self.rebase >= 1,
            f"rebase of at least 1 frame, got {self.rebase!r}; use None to propagate from key frames alone",
        )
        _expect(self.steps >= 0, f"steps of at least 0, got {self.steps!r}; 0 rebases while S_h is idle alone")
        _expect(
            interval is None or bound is None or interval <= bound,
            f"an interval of at most age_bound={bound} frames, got {interval}; lower the interval, or pass "
            f"age_bound={interval} or None",
        )

    @property
    def needs_fast_track(self) -> bool:
        """Whether any frame is ever propagated: False if every frame waits for S_h, as under `PerFrame`."""
        every_frame = self.policy.signal is None and self.policy.is_key(1, None)
        return not (self.mode is Mode.BLOCKING and every_frame)

    def advance(self, state: VideoState, event: events.Event) -> Step:
        """Return the state after `event`, and the actions to carry out in order.

        Raises:
            ValueError: the event doesn't fit the state, which is a mistake of the runtime.
        """
        match event:
            case events.FrameBegun(index) if state.phase is Phase.BETWEEN and (
                state.index is None or index > state.index
            ):
                return self._begin(state, index)
            case events.Measured(index, value) if (
                state.phase in (Phase.DECIDING, Phase.DEFERRED) and index == state.index
            ):
                return self._measured(state, value)
            case events.Emitted(index) if state.phase is Phase.EMITTING and index == state.index:
                return self._emitted(state)
            case events.Landed(launch, steps) if state.phase in (Phase.BETWEEN, Phase.HIGHER):
                return self._landed(state, launch, steps)
            case events.Failed(launch) if state.phase in (Phase.BETWEEN, Phase.HIGHER):
                return self._failed(state, launch)
        raise ValueError(
            f"Schedule.advance: expected an event that fits '{state.phase.value}' at frame {state.index}, "
            f"got {event}; answer each action before the next event, and begin frames in rising order"
        )

    def _begin(self, state: VideoState, index: int) -> Step:
        state = replace(state, index=index, plan=Plan.UNDECIDED)
        lower = events.RunLower(index)
        if state.key is None:
            return self._block(state, lower)
        if self.policy.signal is None:
            return self._serve(self._decide(state, None), lower)
        if self.decision is Decision.DEFERRED:
            return self._propagate(state, lower)
        return replace(state, phase=Phase.DECIDING), (lower, events.Decide(index, self.policy.signal))

    def _measured(self, state: VideoState, value: float) -> Step:
        late = state.phase is Phase.DEFERRED
        cuts = state.counts.cuts
        state = self._decide(state, value)
        if not late:
            return self._serve(state)
        degrade = (events.Degrade(state.index),) if state.counts.cuts > cuts else ()
        return self._finish(state, *degrade)

    def _emitted(self, state: VideoState) -> Step:
        state = _count(state, frames=1)
        if state.plan is Plan.UNDECIDED:
            return replace(state, phase=Phase.DEFERRED), (events.Decide(state.index, self.policy.signal),)
        return self._finish(state)

    def _landed(self, state: VideoState, launch: int, steps: int) -> Step:
        flight = state.flight
        if flight is None or flight.launch != launch:
            return _count(state, discarded=1), (events.Discard(launch),)
        waited_for = state.phase is Phase.HIGHER
        startup = state.key is None
        state = _count(state, landings=1, keys=int(waited_for))
        if not 0 <= steps <= (most := len(flight.path)):
            raise ValueError(f"Schedule: expected 0 to {most} steps of pass {launch}, got {steps}; each is to a base")
        base = (flight.index, *flight.path)[steps]
        state = replace(state, source=flight.index, base=base, flight=None, failures_in_a_row=0)
        if not waited_for:
            return state, (events.ReplaceHigh(flight.index, launch, steps),)
        state = replace(state, phase=Phase.EMITTING, key=flight.index, owed=False)
        emit = events.Emit(flight.index, key=True, age=0, degraded=False, startup=startup)
        return state, (events.StoreKey(flight.index), events.Classify(flight.index), emit)

    def _failed(self, state: VideoState, launch: int) -> Step:
        if state.flight is None or state.flight.launch != launch:
            return _count(state, discarded=1), (events.Discard(launch),)
        failures = state.failures_in_a_row + 1
        retry_from = state.index + min(2 ** (failures - 1), LONGEST_BACKOFF)
        state = replace(state, flight=None, owed=True, failures_in_a_row=failures, retry_from=retry_from)
        state = _count(state, failures=1)
        if state.phase is Phase.BETWEEN:
            return state, ()
        if state.key is None:
            return replace(state, phase=Phase.BETWEEN), (events.GiveUp(state.index),)
        return self._propagate(replace(state, plan=Plan.PROPAGATED))

    def _decide(self, state: VideoState, value: float | None) -> VideoState:
        """Decides what becomes of the current frame, given the policy's measured `value`, and counts that."""
        cut = self.policy.is_cut(value)
        wanted = cut or self.policy.is_key(state.index - state.key, value)
        overdue = self.age_bound is not None and state.age >= self.age_bound
        if cut:
            state = _count(replace(state, cut=state.index), cuts=1)
        if state.flight is not None or state.index < state.retry_from:
            if wanted:
                state = _count(replace(state, owed=state.owed or cut), coalesced=1)
            return replace(state, plan=Plan.PROPAGATED)
        if not (wanted or state.owed or overdue):
            return replace(state, plan=Plan.PROPAGATED)
        if not (wanted or state.owed):
            state = _count(state, forced=1)
        behind_cut = state.cut is not None and state.source < state.cut
        block = self.mode is Mode.BLOCKING or (behind_cut and self.on_cut is OnCut.BLOCK)
        return replace(state, plan=Plan.BLOCKING if block else Plan.PROMOTED)

    def _serve(self, state: VideoState, *before: events.Action) -> Step:
        serve = self._block if state.plan is Plan.BLOCKING else self._propagate
        return serve(state, *before)

    def _block(self, state: VideoState, *before: events.Action) -> Step:
        flight = Flight(state.counts.launches, state.index)
        state = _count(replace(state, phase=Phase.HIGHER, plan=Plan.BLOCKING, flight=flight), launches=1)
        return state, (*before, events.RunHigher(flight.index, flight.launch))

    def _propagate(self, state: VideoState, *before: events.Action) -> Step:
        key = state.plan is Plan.PROMOTED
        emit = events.Emit(state.index, key=key, age=state.age, degraded=self._degraded(state), startup=False)
        return replace(state, phase=Phase.EMITTING), (*before, events.Propagate(state.index), emit)

    def _finish(self, state: VideoState, *before: events.Action) -> Step:
        """Ends the frame: returns the actions that follow its labels, `before` among them."""
        state = replace(state, phase=Phase.BETWEEN)
        if state.plan is Plan.PROPAGATED and self._rebases(state):
            flight = state.flight and replace(state.flight, path=(*state.flight.path, state.index))
            return replace(state, base=state.index, flight=flight), (*before, events.Rebase(state.index))
        if state.plan is not Plan.PROMOTED:
            return state, before
        flight = Flight(state.counts.launches, state.index)
        state = replace(state, key=state.index, base=state.index, flight=flight, owed=False)
        state = _count(state, launches=1, keys=1)
        return state, (*before, events.Promote(flight.index), events.Launch(flight.index, flight.launch))

    def _rebases(self, state: VideoState) -> bool:
        room = state.flight is None or len(state.flight.path) < self.steps
        return self.rebase is not None and room and state.index - state.base >= self.rebase

    def _degraded(self, state: VideoState) -> bool:
        behind_cut = state.cut is not None and state.source < state.cut
        overdue = self.age_bound is not None and state.age > 2 * self.age_bound
        return behind_cut or overdue or state.failures_in_a_row > 0


def _count(state: VideoState, **more: int) -> VideoState:
    counts = {name: getattr(state.counts, name) + n for name, n in more.items()}
    return replace(state, counts=replace(state.counts, **counts))


def _expect(held: bool, words: str) -> None:
    if not held:
        raise ValueError(f"Schedule: expected {words}")


def _word(name: str, kind: type[Enum], value: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        words = " or ".join(repr(word.value) for word in kind)
        raise ValueError(f"Schedule: expected {name} to be {words}, got {value!r}; choose one of them") from None
