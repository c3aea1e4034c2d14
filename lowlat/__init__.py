"""Semantic segmentation of live video with a bounded latency. Each name is imported when it is first used."""

import importlib
from typing import Any

_HOMES = {
    "VideoSegmenter": "lowlat.segmenter",
    "prepare": "lowlat.segmenter",
    "Hub": "lowlat.hub.hub",
    "FrameResult": "lowlat.runtime.result",
    "FrameBuffer": "lowlat.runtime.buffer",
    "Classes": "lowlat.classes",
    "Steady": "lowlat.video.steady",
    "load": "lowlat.models",
    "adopt": "lowlat.adoption.adopt",
    "split_points": "lowlat.adoption.points",
    "Accumulated": "lowlat.schedule",
    "Adaptive": "lowlat.schedule",
    "Every": "lowlat.schedule",
    "PerFrame": "lowlat.schedule",
    "Threshold": "lowlat.schedule",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lowlat' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
