"""A run as plain values: its figures, settings, machine and frames, as report.json holds them."""

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
    """What a report says of one frame, times in ms.

    Args:
        latency: what its latency is called.
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
    """What a run was asked for: the weights by name and by what the file holds, and the ``others`` as they are."""
    return {
        "weights": str(weights),
        "weights_sha256": weights_digest(weights),
        "policy": policy_words(policy),
        **others,
    }


def policy_words(policy: Policy | None) -> str:
    """A policy in words, as in "every, interval 5"."""
    if policy is None:
        return "as the weights say"
    name = next((name for name, made in POLICIES.items() if type(policy) is made), type(policy).__name__)
    return ", ".join([name, *(f"{key} {value:g}" for key, value in asdict(policy).items() if value is not None)])


def make_report(
    kind: str, figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], key: str = "frames", **more: Any
) -> dict[str, Any]:
    """The whole report of a run as plain values.

    Args:
        kind: "demo", "latency" or "segment".
        figures: what its command prints with ``--json``.
        rows: a `frame_row` a frame, in order.
        key: the name under which they stand.
        more: its ``settings``; of the files beside it, as paths from its folder, those of the labelled video
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
    """The way from a folder to a file, which holds wherever both are moved together."""
    return os.path.relpath(path, folder)


def address(path: str) -> str:
    """A relative path as the address of a link: no letter of it is taken for anything else."""
    return quote(os.fsencode(path))


def in_lines(report: Mapping[str, Any]) -> str:
    """JSON that a person can read too: an object of a list stands on one line."""
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
    """The first letters of the file's SHA-256, since weights of one name may differ; None for a network of no file."""
    try:
        path = models.find(weights)
    except ValueError:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
