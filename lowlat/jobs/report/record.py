"""A run as plain values, as report.json holds them: its figures, settings, machine and frames."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lowlat import models
from lowlat.jobs.info import machine
from lowlat.runtime import FrameResult
from lowlat.schedule.policies import POLICIES, Policy

MOST_FRAMES = 50_000
"""Frames that a report holds at most: the last ones."""
TRACE_FRAMES = 2000
"""Frames in the trace at most: the last ones."""


def frame_row(result: FrameResult, latency: str = "latency_ms") -> dict[str, Any]:
    """Make the row of one frame in a report, times in ms.

    Args:
        latency: the key of its latency.
    """
    return {
        "index": result.index,
        "time_s": None if result.time_s is None else round(result.time_s, 6),
        latency: round(result.latency_ms, 3),
        "stages_ms": {name: round(ms, 3) for name, ms in result.stages_ms.items()},
        "key": result.key,
        "landed": result.landed,
        "age": result.age,
        "degraded": result.degraded,
        "startup": result.startup,
    }


def settings_of(weights: str | Path, policy: Policy | None = None, **others: Any) -> dict[str, Any]:
    """Return what a run was asked for: the weights by name and by a digest of their file, and the ``others`` as they
    are."""
    return {
        "weights": str(weights),
        "weights_sha256": weights_digest(weights),
        "policy": policy_words(policy),
        **others,
    }


def policy_words(policy: Policy | None) -> str:
    """Describe a policy in words, as in "every, interval 5"."""
    if policy is None:
        return "as the weights say"
    name = next((name for name, made in POLICIES.items() if type(policy) is made), type(policy).__name__)
    return ", ".join([name, *(f"{key} {value:g}" for key, value in asdict(policy).items() if value is not None)])


def make_report(
    kind: str, figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], key: str = "frames", **more: Any
) -> dict[str, Any]:
    """Make the whole report of a run, in plain values.

    Args:
        kind: "demo", "latency" or "segment".
        figures: what its command prints with ``--json``.
        rows: a `frame_row` for each frame, in order.
        key: the key of the rows.
        more: the ``settings``, and the files beside the report as paths from its folder: the labelled video
            (``overlay``), a picture of it (``picture``) and the ``trace``.
    """
    files = {"overlay": None, "picture": None, "trace": None}
    return {
        "kind": kind,
        **figures,
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **files,
        **more,
        "machine": machine(),
        "frames_left_out": max(0, len(rows) - MOST_FRAMES),
        key: list(rows[-MOST_FRAMES:]),
    }


def beside(path: str | Path, folder: str | Path) -> str:
    """Return the path from a folder to a file, which holds wherever both are moved together."""
    return os.path.relpath(path, folder)


def address(path: str) -> str:
    """Return a relative path as the address of a link, with its special characters escaped."""
    return quote(os.fsencode(path))


def in_lines(report: Mapping[str, Any]) -> str:
    """Return JSON that a person can read too, each object of a list on a line."""
    lines = []
    for name, value in report.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in value)
            text = f"[\n{rows}\n ]"
        else:
            text = json.dumps(value, indent=1, allow_nan=False).replace("\n", "\n ")
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def weights_digest(weights: str | Path) -> str | None:
    """Return the first letters of the SHA-256 of a file of weights, since weights of one name may differ; None for a
    network without a file."""
    try:
        path = models.find(weights)
    except ValueError:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
