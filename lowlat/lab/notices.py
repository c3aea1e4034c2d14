"""One line to whoever started a job, on stderr: what it does that they may not expect."""

from __future__ import annotations

import sys

from lowlat.jobs.progress import first_process


def notice(line: str) -> None:
    """Say ``line`` on stderr; of the processes that `torchrun` started, the first one alone speaks."""
    if first_process():
        print(f"lowlat: {line}", file=sys.stderr)
