"""The log of the service on standard error: lines of text on a terminal, JSON objects elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from lowlat.video.address import masked

LOGGER = logging.getLogger("lowlat.serve")
PROGRAM = "lowlat"
FORMATS = ("text", "json")


class _Lines(logging.Formatter):
    """Writes one line for each event, with its fields; passwords and tokens are masked."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        fields = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "error": self.formatException(record.exc_info)}
        event = {"time": time, "level": record.levelname.lower(), "event": record.getMessage(), **fields}
        event = {name: masked(value) if isinstance(value, str) else value for name, value in event.items()}
        if self._as_json:
            return json.dumps(event, default=str)
        words = [f"{name}={value}" for name, value in event.items() if name not in ("time", "level", "event")]
        level = "" if record.levelno == logging.INFO else f"{event['level']}: "
        return " ".join([f"{PROGRAM}:", f"{level}{event['event']}", *words])


@contextmanager
def logged_to_stderr(form: str | None = None) -> Iterator[None]:
    """Write the service's events, and the warnings of its HTTP server, to standard error during the block.

    Args:
        form: one of `FORMATS`; by default text on a terminal, JSON elsewhere.

    Raises:
        ValueError: an unknown form.
    """
    if form is not None and form not in FORMATS:
        raise ValueError(f"serve: expected --log to be one of {', '.join(FORMATS)}, got {form!r}; choose one of them")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(form == "json" or (form is None and not sys.stderr.isatty())))
    loggers = {LOGGER: logging.INFO, logging.getLogger("uvicorn.error"): logging.WARNING}
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger, level in loggers.items():
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def say(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log an event with its fields, cut to a bounded length."""
    LOGGER.log(level, event, extra={"fields": fields})
