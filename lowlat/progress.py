"""Progress bars on standard error, so that standard output holds results alone. For every job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


def progress_bar(console: Console | None = None, *, auto_refresh: bool = True) -> Progress:
    """Description, bar, count, time gone, time left.

    Args:
        console: where to draw; by default standard error.
        auto_refresh: draw from a thread of its own; without it, only on ``refresh()``.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = console if console is not None else Console(stderr=True)
    return Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=auto_refresh)


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate with a bar."""
    with progress_bar() as progress:
        yield from progress.track(items, description=description)
