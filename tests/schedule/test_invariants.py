"""What holds whatever the order of events: random interleavings on the pure state machine."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lowlat.schedule import Accumulated, Adaptive, Every, PerFrame, Schedule, Threshold, VideoState
from lowlat.schedule.events import (
    Decide,
    Emit,
    Emitted,
    Failed,
    FrameBegun,
    GiveUp,
    Landed,
    Launch,
    Measured,
    Promote,
    Propagate,
    Rebase,
    ReplaceHigh,
    RunHigher,
    StoreKey,
)

POLICIES = [
    PerFrame(),
    Every(1),
    Every(4),
    Adaptive(0.1, cut=0.6),
    Adaptive(0.4, cut=None),
    Accumulated(0.5, cut=0.6),
    Threshold(0.3, cut=0.9),
]

schedules = st.one_of(
    st.builds(
        Schedule,
        st.sampled_from(POLICIES),
        mode=st.sampled_from(["blocking", "low-latency"]),
        age_bound=st.sampled_from([4, 10, None]),
        rebase=st.sampled_from([1, 3, None]),
        steps=st.sampled_from([0, 2, 6]),
        on_cut=st.sampled_from(["degrade", "block"]),
    ),
    st.builds(
        Schedule,
        st.sampled_from(POLICIES),
        decision=st.just("deferred"),
        age_bound=st.sampled_from([4, 10, None]),
        rebase=st.sampled_from([1, 3, None]),
        steps=st.sampled_from([0, 2, 6]),
    ),
)

# One frame: how far its index lies ahead, what is measured on it, whether a blocking S_h raises, and what a
# background S_h in flight does before it begins.
frames = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 2, 5]),
        st.floats(0, 1) | st.just(float("nan")),
        st.sampled_from([False, False, False, True]),
        st.sampled_from(["nothing", "nothing", "lands", "lands behind", "fails", "stray landing"]),
    ),
    min_size=1,
    max_size=60,
)


class Caches:
    """Carries out the actions on frame numbers and checks each as it comes.

    `high` is the frame whose true features the cached F_h comes from: kept here from the actions alone, so
    the machine's own account of it can be checked.
    """

    def __init__(self, schedule):
        self.schedule = schedule
        self.state = VideoState()
        self.key = self.base = self.high = None
        self.flight, self.path = None, []
        self.emitted = self.given_up = 0

    def feed(self, event):
        self.state, actions = self.schedule.advance(self.state, event)
        for action in actions:
            self.check(action)
        return list(actions)

    def check(self, action):
        match action:
            case RunHigher(index, launch) | Launch(index, launch):
                assert self.flight is None, "two S_h in flight"
                assert index == self.state.index, "S_h runs on a frame that is past"
                self.flight = (launch, index)
            case ReplaceHigh(index, launch, steps):
                assert self.flight == (launch, index) and index == self.key, "F_h replaced by another frame's landing"
                assert steps <= len(self.path) <= self.schedule.steps
                self.base, self.high, self.flight = (index, *self.path)[steps], index, None
            case StoreKey(index):
                assert self.flight[1] == index == self.state.index
                self.key, self.base, self.high, self.flight = index, index, index, None
            case Promote(index):
                assert index == self.state.index
                self.key, self.base, self.path = index, index, []
            case Rebase(index):
                assert index == self.state.index and index - self.base >= self.schedule.rebase
                self.base = index
                if self.flight is not None:
                    assert self.flight[1] == self.key, "what is under way can be carried here"
                    self.path.append(index)
            case Propagate(index):
                assert self.key <= self.base < index, "propagated from a frame that is not past"

    def background(self, event):
        if event == "stray landing":
            self.feed(Landed(10_000))
        elif self.flight is not None and event != "nothing":
            launch = self.flight[0]
            if event == "fails":
                self.flight = None
                self.feed(Failed(launch))
            else:
                self.feed(Landed(launch, len(self.path) if event == "lands" else len(self.path) // 2))

    def frame(self, index, value, fails):
        key, high = self.key, self.high
        todo = self.feed(FrameBegun(index))
        emits = []
        while todo:
            action = todo.pop(0)
            if isinstance(action, Decide):
                todo += self.feed(Measured(index, value))
            elif isinstance(action, RunHigher):
                if fails:
                    self.flight = None
                    todo += self.feed(Failed(action.launch))
                else:
                    todo += self.feed(Landed(action.launch))
            elif isinstance(action, Emit):
                self.check_emit(action, key, high)
                emits.append(action)
                todo += self.feed(Emitted(index))
            elif isinstance(action, GiveUp):
                self.given_up += 1
        self.emitted += len(emits)
        return emits

    def check_emit(self, emit, key, high):
        source = self.high
        assert emit.index == self.state.index
        assert 0 <= source <= emit.index, "features from the future"
        assert emit.age == emit.index - source
        if self.high == high and self.key == key:
            assert emit.age > 0, "a frame with no pass of its own shows older features"
        assert not (self.schedule.mode == "blocking" and self.flight), "a blocking schedule leaves nothing in flight"


@settings(max_examples=250, deadline=None)
@given(schedules, frames)
def test_no_interleaving_breaks_the_schedule(schedule, frames):
    caches, index = Caches(schedule), -1
    for step, value, fails, event in frames:
        index += step
        caches.background(event)
        emits = caches.frame(index, value, fails)
        assert len(emits) == 1 or caches.key is None, "every frame is answered, once there is a key frame"
        for emit in emits:
            late = schedule.age_bound is not None and emit.age >= schedule.age_bound
            waiting = index < caches.state.retry_from
            assert not late or caches.flight is not None or waiting, "an old frame with no S_h on its way"
        assert (caches.state.key, caches.state.base, caches.state.source) == (caches.key, caches.base, caches.high)
    assert caches.emitted + caches.given_up == len(frames)
    assert caches.state.counts.frames == caches.emitted


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(POLICIES),
    st.sampled_from(["critical", "deferred"]),
    st.sampled_from([6, 10]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 14)), min_size=1, max_size=80),
)
def test_ages_stay_within_the_promised_bound(policy, decision, bound, draws):
    """max(age_bound, d) + d, d the longest delay of a landing, where no frame is dropped and nothing
    fails."""
    caches, due = Caches(Schedule(policy, decision=decision, age_bound=bound)), None
    longest = max(delay for _, delay in draws)
    for index, (value, delay) in enumerate(draws):
        if due == index:
            caches.background("lands")
        flight = caches.flight
        (emit,) = caches.frame(index, value, fails=False)
        assert emit.age <= max(bound, longest) + longest
        if caches.flight is not None and caches.flight != flight:
            due = index + delay


@settings(max_examples=60, deadline=None)
@given(schedules, frames)
def test_the_machine_is_pure(schedule, frames):
    """The same events from the same state give the same actions and leave the state they started from
    alone."""
    state, index = VideoState(), -1
    for step, value, fails, _ in frames:
        index += step
        event = FrameBegun(index)
        while event is not None:
            first, again = schedule.advance(state, event), schedule.advance(state, event)
            assert repr(first) == repr(again)
            state, actions = first
            event = next((answer for answer in (_answer(action, value, fails) for action in actions) if answer), None)


def _answer(action, value, fails):
    match action:
        case Decide(index):
            return Measured(index, value)
        case RunHigher(_, launch):
            return Failed(launch) if fails else Landed(launch)
        case Emit(index):
            return Emitted(index)
    return None
