"""Prints one line on stderr to whoever started a job, about something that the job does and that they may not
expect."""

from __future__ import annotations

import sys

from lowlat.jobs.progress import first_process


def notice(line: str) -> None:
    """Print ``line`` on stderr. Of the processes that `torchrun` started, only the first one does."""
    if first_process():
        print(f"lowlat: {line}", file=sys.stderr)
