"""Published figures beside ours, each with the publication it is from; figures that none at hand gives are left out."""

from __future__ import annotations

from typing import NamedTuple

from lowlat.jobs.latency.paper import PUBLISHED_SCHEDULES, PUBLISHED_STAGES

__all__ = ["PUBLISHED_DROP", "PUBLISHED_SCHEDULES", "PUBLISHED_STAGES", "SYSTEMS", "System"]

PUBLISHED_DROP = 4.3
"""mIoU points that the paper's low-latency schedule stays below its per-frame network on Cityscapes val."""


class System(NamedTuple):
    """A published point of Figure 1: Cityscapes, 2048x1024, a GPU of its time."""

    name: str
    miou: float
    split: str  # empty where the publication does not say
    average_ms: float
    """The average time of a frame; in systems with key frames, a key frame takes longer."""
    hardware: str
    publication: str


SYSTEMS = (
    System("ICNet", 69.5, "test", 33.0, "Titan X", "Zhao et al., ECCV 2018; github.com/hszhao/ICNet (33 to 36 ms)"),
    System("BiSeNet", 68.4, "test", 9.5, "Titan XP", "Yu et al., ECCV 2018, abstract (105 frames/s)"),
    System("DVSNet", 70.4, "", 50.5, "not said", "Xu et al., CVPR 2018, abstract (19.8 frames/s)"),
    System("DVSNet, fast", 63.2, "", 32.9, "not said", "Xu et al., CVPR 2018, abstract (30.4 frames/s)"),
)
"""The other systems of the paper's Figure 1 (PSPNet, Clockwork, Deep Feature Flow, ...) and its mIoU figures are left
out: no publication at hand gives them beside their times."""
