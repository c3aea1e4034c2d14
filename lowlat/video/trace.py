"""A run as a trace for Perfetto (ui.perfetto.dev) or Chrome, with a track each for S_l, propagation and S_h, and for
the host if it ran on a GPU."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from lowlat.runtime.result import TRACKS, Span
from lowlat.video.files import whole_file

PROCESS = 1


def trace_events(
    spans: Iterable[Span], name: str = "lowlat", times: Mapping[int, float | None] | None = None
) -> dict[str, object]:
    """Convert spans to the Trace Event Format: complete events in microseconds, each with its frame's index.

    Args:
        times: seconds of frames in their source, by index, which the events of those frames show as ``time_s``.
    """
    spans = sorted(spans, key=lambda span: span.start_ms)
    events: list[dict[str, object]] = [_label("process_name", 0, name=name)]
    for track, title in enumerate(TRACKS, 1):
        if title == "host" and not any(span.track == title for span in spans):
            continue
        events.append(_label("thread_name", track, name=title))
        events.append(_label("thread_sort_index", track, sort_index=track))
    for span in spans:
        events.append(
            {
                "ph": "X",
                "pid": PROCESS,
                "tid": TRACKS.index(span.track) + 1,
                "name": span.stage,
                "ts": round(span.start_ms * 1e3, 3),
                "dur": round((span.end_ms - span.start_ms) * 1e3, 3),
                "args": _place(span.index, times),
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_trace(
    path: str | Path,
    spans: Iterable[Span],
    name: str = "lowlat",
    times: Mapping[int, float | None] | None = None,
) -> None:
    """Write :func:`trace_events` as JSON, in a file that appears whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(trace_events(spans, name, times)))


def _place(index: int, times: Mapping[int, float | None] | None) -> dict[str, object]:
    time_s = (times or {}).get(index)
    return {"frame": index} if time_s is None else {"frame": index, "time_s": round(time_s, 6)}


def _label(kind: str, track: int, **args: object) -> dict[str, object]:
    return {"ph": "M", "pid": PROCESS, "tid": track, "name": kind, "args": args}
