"""The schedule: policies decide which frames are key frames, a pure state machine decides how each frame is served."""

from lowlat.schedule.machine import DEFAULT_AGE_BOUND, LONGEST_BACKOFF, Decision, Mode, OnCut, Schedule
from lowlat.schedule.policies import (
    MEASURED,
    POLICIES,
    Accumulated,
    Adaptive,
    Every,
    PerFrame,
    Policy,
    Signal,
    Threshold,
)  # fmt: skip
from lowlat.schedule.state import Counts, Flight, Phase, Plan, VideoState

__all__ = [
    "Accumulated", "Adaptive", "Counts", "DEFAULT_AGE_BOUND", "Decision", "Every", "Flight", "LONGEST_BACKOFF",
    "MEASURED", "Mode", "OnCut", "POLICIES", "PerFrame", "Phase", "Plan", "Policy", "Schedule", "Signal", "Threshold",
    "VideoState",
]  # fmt: skip
