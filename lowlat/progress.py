"""Progress bars on standard error, so that standard output holds results alone. For every job."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


def first_process() -> bool:
    """Whether this is the one to speak: the only process, or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


def progress_bar(console: Console | None = None, *, auto_refresh: bool = True) -> Progress:
    """Description, bar, count, time gone, time left.

    Args:
        console: where to draw; by default standard error, for the first process alone.
        auto_refresh: draw from a thread of its own; without it, only on ``refresh()``.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    if console is None:
        console = Console(stderr=True, quiet=not first_process())
    return Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=auto_refresh)


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate with a bar."""
    with progress_bar() as progress:
        yield from progress.track(items, description=description)
