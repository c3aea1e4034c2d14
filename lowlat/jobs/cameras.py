"""What runs on live sources need beside the frames: how long a source is waited for, its gaps, and words for a
stall."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lowlat.video.address import LIVE_SCHEMES, masked, scheme_of, shown, whole_address
from lowlat.video.frames import Source, SourceError
from lowlat.video.pipe import is_pipe
from lowlat.video.reconnect import ReconnectingSource
from lowlat.video.source import open_source

GRACE_S = 5.0
"""Seconds beyond the stall limit after which the run gives up waiting: a source that can tell of a stall does so first,
and is opened again."""


def check_patience(job: str, reconnect_s: float, stall_s: float) -> None:
    """Check how long a live source is waited for.

    Raises:
        ValueError: ``--reconnect`` is below 0, or ``--stall`` not above it.
    """
    if not reconnect_s >= 0:
        raise ValueError(
            f"{job}: expected --reconnect of 0 seconds or more, got {reconnect_s:g}; leave it out to wait for ever"
        )
    if not 0 < stall_s < float("inf"):
        raise ValueError(f"{job}: expected --stall above 0 seconds, got {stall_s:g}; leave it out for 10")


def away(source: Source) -> Callable[[], bool]:
    """Return a function that says whether the source is lost and waited for."""
    return lambda: isinstance(source, ReconnectingSource) and source.away


def gaps_of(source: Source) -> tuple[dict[str, object], ...]:
    """Return the times without the source, as a report has them: "from", "to", "seconds", "reason"; "to" is None if the
    source did not come back."""
    return tuple(gap.as_dict() for gap in source.gaps) if isinstance(source, ReconnectingSource) else ()


def refuse_live(job: str, spec: str, why: str) -> None:
    """Refuse a live source in a job that reads its input more than once. It opens the source to find out.

    Args:
        why: why the job needs a recording, for the message.

    Raises:
        SourceError: it is live, standard input, or can't be opened.
    """
    spec = whole_address(spec)
    if is_pipe(spec):
        raise SourceError(
            f"{job}: expected a recording, got '-' for standard input, which can be read once: {why}; "
            "write it to a file first, or use lowlat segment"
        )
    # A camera is refused whether it is there or not.
    if scheme_of(spec) not in LIVE_SCHEMES:
        with open_source(spec) as source:
            if not source.live:
                return
    raise SourceError(
        f"{job}: expected a recording, got {shown(spec)!r}, which is live: {why}; "
        "record it first, or use lowlat segment, which takes it as it comes"
    )


def in_one_line(error: BaseException) -> str:
    """Return the message of an error in one line, with the passwords in it masked."""
    return masked(" ".join(str(error).split())) or type(error).__name__


@contextmanager
def failures_told(
    on_failure: Callable[[Any], None] | None, report: Callable[[bool, str | None], Any]
) -> Iterator[None]:
    """If the block raises an error or is interrupted by Ctrl-C, hand on a report of the run before that goes on.

    Args:
        on_failure: is called with the report.
        report: makes the report, from whether the run was interrupted and, if it was not, from the error's message.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if on_failure is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            on_failure(report(interrupted, None if interrupted else in_one_line(error)))
        raise


@contextmanager
def stalls_told(job: str, source: Source, limit_s: float | None) -> Iterator[None]:
    """Turn a stall within the block into an error that names the source and the option.

    Raises:
        TimeoutError: no frame came for ``limit_s`` seconds.
    """
    try:
        yield
    except TimeoutError as error:
        raise TimeoutError(
            f"{job}: expected a frame of {source.name!r} within {limit_s:g} s, got none; "
            "check the source, or raise --stall"
        ) from error
