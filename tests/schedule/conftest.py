"""A stream that tests feed by hand: the schedule with its state, and a short form for one whole frame."""

import pytest

from lowlat.schedule import Schedule, VideoState
from lowlat.schedule.events import Decide, Emit, Emitted, Failed, FrameBegun, Landed, Launch, Measured, RunHigher


class Stream:
    """Feeds a schedule with events, answers what one frame asks, and keeps every action."""

    def __init__(self, policy, **options):
        self.schedule = Schedule(policy, **options)
        self.state = VideoState()

    def feed(self, event):
        self.state, actions = self.schedule.advance(self.state, event)
        return list(actions)

    def frame(self, index, value=0.0, fails=False):
        """Do one frame, and return all its actions in order."""
        todo, done = self.feed(FrameBegun(index)), []
        while todo:
            action = todo.pop(0)
            done.append(action)
            if isinstance(action, Decide):
                todo += self.feed(Measured(index, value))
            elif isinstance(action, RunHigher):
                todo += self.feed(Failed(action.launch) if fails else Landed(action.launch))
            elif isinstance(action, Emit):
                todo += self.feed(Emitted(index))
        return done

    def frames(self, indices, value=0.0):
        return [self.frame(index, value) for index in indices]

    def land(self, steps=0):
        return self.feed(Landed(self.state.flight.launch, steps))

    def fail(self):
        return self.feed(Failed(self.state.flight.launch))


def only(kind, actions):
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1, f"expected one {kind.__name__}, got {actions}"
    return found[0]


def has(kind, actions):
    return any(isinstance(action, kind) for action in actions)


@pytest.fixture
def stream():
    return Stream


@pytest.fixture
def launched():
    """Returns the frame that a list of actions launches S_h on, or None."""

    def find(actions):
        return only(Launch, actions).index if has(Launch, actions) else None

    return find
