"""When is a frame a key frame, and how is it served: the policies and the pure state machine."""

from lowlat.schedule.events import (
    Action,
    Classify,
    Decide,
    Degrade,
    Discard,
    Emit,
    Emitted,
    Event,
    Failed,
    FrameBegun,
    GiveUp,
    Landed,
    Launch,
    Measured,
    Promote,
    Propagate,
    ReplaceHigh,
    RunHigher,
    RunLower,
    StoreKey,
)
from lowlat.schedule.machine import DEFAULT_AGE_BOUND, LONGEST_BACKOFF, Decision, Mode, OnCut, Schedule
from lowlat.schedule.policies import (
    POLICY_NAMES,
    Adaptive,
    Every,
    PerFrame,
    Policy,
    Signal,
    Threshold,
    make_policy,
)
from lowlat.schedule.state import Counts, Flight, Phase, Plan, StreamState

__all__ = [
    "Action", "Adaptive", "Classify", "Counts", "DEFAULT_AGE_BOUND", "Decide", "Decision", "Degrade", "Discard", "Emit",
    "Emitted", "Event", "Every", "Failed", "Flight", "FrameBegun", "GiveUp", "LONGEST_BACKOFF", "Landed", "Launch",
    "Measured", "Mode", "OnCut", "POLICY_NAMES", "PerFrame", "Phase", "Plan", "Policy", "Promote", "Propagate",
    "ReplaceHigh", "RunHigher", "RunLower", "Schedule", "Signal", "StoreKey", "StreamState", "Threshold", "make_policy",
]
