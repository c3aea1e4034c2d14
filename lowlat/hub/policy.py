"""Policies for a device that has no time for all the key frames that a policy asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lowlat.schedule import Policy, Schedule, Signal


@dataclass(frozen=True)
class Spaced(Policy):
    """The key frames of another policy, but none earlier than ``least`` frames after the last. Cuts are found at
    once."""

    policy: Policy
    least: int

    @property
    def signal(self) -> Signal | None:
        return self.policy.signal

    @property
    def cut(self) -> float | None:
        return self.policy.cut

    def is_key(self, distance: int, value: float | None) -> bool:
        return distance >= self.least and self.policy.is_key(distance, value)


def spaced(schedule: Schedule, least: int) -> Schedule:
    """Return the schedule with key frames at least ``least`` frames apart, and with an age bound that allows it."""
    if least <= 1:
        return schedule
    bound = None if schedule.age_bound is None else max(schedule.age_bound, least)
    return replace(schedule, policy=Spaced(schedule.policy, least), age_bound=bound)
