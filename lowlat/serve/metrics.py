"""`/metrics`: figures of every video, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lowlat.serve.history import OUTCOMES

CONTENT_TYPE = CONTENT_TYPE_LATEST
_EVENTS = {
    "key_frames": "Frames that became key frames, start-up apart.",
    "landings": "Passes of S_h whose features came into use.",
    "passes_failed": "Passes of S_h that failed.",
    "degraded": "Frames whose labels are known to be worse than usual.",
}
_FIGURES = {
    "median_ms": ("latency_median_ms", "Median latency of the last minutes."),
    "p99_ms": ("latency_p99_ms", "99th percentile of the latency of the last minutes."),
    "max_ms": ("latency_max_ms", "Longest latency of the last minutes."),
    "fps": ("labelled_fps", "Frames a second that got labels, over the last ten seconds."),
    "baseline_ms": ("baseline_ms", "Time of the whole network on a frame, measured at the start."),
    "bound_ms": ("bound_ms", "What a frame waits at most until its labels are out, as costs have been measured."),
}


class _Videos(Collector):
    """Collects the figures when Prometheus asks, so that nothing is left of a video that is closed."""

    def __init__(self, abouts: Callable[[], list[dict[str, Any]]]) -> None:
        self._abouts = abouts

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        abouts = self._abouts()
        yield GaugeMetricFamily("lowlat_videos", "Videos that are open.", value=len(abouts))
        live = GaugeMetricFamily("lowlat_live", "Whether a video gives labels, as its state says.", labels=["video"])
        captured = CounterMetricFamily("lowlat_frames_captured", "Frames that came.", labels=["video"])
        ended = CounterMetricFamily("lowlat_frames", "Frames by what became of them.", labels=["video", "outcome"])
        under_way = GaugeMetricFamily("lowlat_frames_under_way", "Frames that wait or are labelled.", labels=["video"])
        for about in abouts:
            name, counts = about["name"], about["counts"]
            live.add_metric([name], about["state"] == "live")
            captured.add_metric([name], counts["captured"])
            under_way.add_metric([name], counts["under_way"])
            for outcome in OUTCOMES:
                ended.add_metric([name, outcome], counts[outcome])
        yield from (live, captured, ended, under_way)
        for event, words in _EVENTS.items():
            counter = CounterMetricFamily(f"lowlat_{event}", words, labels=["video"])
            for about in abouts:
                counter.add_metric([about["name"]], about["counts"][event])
            yield counter
        for figure, (metric, words) in _FIGURES.items():
            gauge = GaugeMetricFamily(f"lowlat_{metric}", words, labels=["video"])
            for about in abouts:
                if (value := about["figures"][figure]) is not None:
                    gauge.add_metric([about["name"]], value)
            yield gauge


class Metrics:
    """The text that Prometheus asks for.

    Args:
        abouts: a function that returns `Video.about` of each video.
    """

    def __init__(self, abouts: Callable[[], list[dict[str, Any]]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Videos(abouts))

    def text(self) -> bytes:
        """Return all figures of this moment."""
        return generate_latest(self._registry)
