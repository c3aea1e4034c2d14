"""Writing in the background: in order, to the end."""

import signal
import threading

import pytest

from lowlat.video.writer import BackgroundWriter

PATIENCE_S = 30
"""Only ever waited for when a test fails."""


@pytest.fixture
def interrupted():
    """Set once Ctrl-C has come to the main thread."""
    came = threading.Event()

    def interrupt(*_):
        came.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    yield came
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_it_closes_waits_for_what_is_being_written(interrupted):
    closing, written = threading.Event(), []

    def write(item):
        if item == 0:
            assert closing.wait(PATIENCE_S)
            # A signal that comes just before the main thread begins to wait doesn't end that wait; the next one does.
            for _ in range(10 * PATIENCE_S):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                if interrupted.wait(0.1):
                    break
        written.append(item)

    writer = BackgroundWriter(write)
    for item in range(4):
        writer.put(item)
    put = writer._items.put

    def put_last(item):
        put(item)
        closing.set()

    writer._items.put = put_last
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert written == [0, 1, 2, 3]
    writer.close()


def test_the_first_error_ends_the_writing_and_is_raised_once():
    written = []

    def write(item):
        if item == 1:
            raise OSError("no room")
        written.append(item)

    writer = BackgroundWriter(write)
    with pytest.raises(OSError, match="no room"):
        for item in range(100):
            writer.put(item)
        writer.close()
    writer.close()
    assert written == [0]
