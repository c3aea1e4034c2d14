"""Progress bars of all jobs, on standard error, so that standard output holds results alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")

_outer: ContextVar[Progress | None] = ContextVar("outer progress", default=None)


def first_process() -> bool:
    """Whether this process is the one to show progress: the only one, or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def progress_bar(console: Console | None = None, *, auto_refresh: bool = True) -> Iterator[Progress]:
    """Show a bar with description, count, time gone and time left. Within another bar it is a line of that one, until
    the block ends.

    Args:
        console: where to draw, whatever is drawn there already; by default standard error, from the first process
            alone.
        auto_refresh: whether a thread draws it; otherwise it is drawn only on ``refresh()``.
    """
    outer = _outer.get()
    if outer is not None and console is None:
        before = set(outer.task_ids)
        try:
            yield outer
        finally:
            for task in set(outer.task_ids) - before:
                outer.remove_task(task)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    if console is None:
        console = Console(stderr=True, quiet=not first_process())
    with Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=auto_refresh) as progress:
        token = _outer.set(progress)
        try:
            yield progress
        finally:
            _outer.reset(token)


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Yield the items, with a bar."""
    with progress_bar() as progress:
        yield from progress.track(items, description=description)
