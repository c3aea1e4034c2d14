"""Waiting for what another thread or process must bring about."""

import time


def until(holds, what, seconds=120, pause=0.02):
    """Wait until ``holds()`` is true and return what it gave; fail, naming ``what``, after so many seconds."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"expected {what} within {seconds} s"
        time.sleep(pause)
    return found
