"""The schedule: policies decide which frames are key frames, a pure state machine decides how each frame is served."""

from lowlat.schedule.machine import DEFAULT_AGE_BOUND, Decision, Mode, OnCut, Schedule
from lowlat.schedule.policies import Accumulated, Adaptive, Every, PerFrame, Policy, Signal, Threshold
from lowlat.schedule.state import Counts, Phase, VideoState

__all__ = [
    "Accumulated", "Adaptive", "Counts", "DEFAULT_AGE_BOUND", "Decision", "Every", "Mode", "OnCut",
    "PerFrame", "Phase", "Policy", "Schedule", "Signal", "Threshold", "VideoState",
]  # fmt: skip
