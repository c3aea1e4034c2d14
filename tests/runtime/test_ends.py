"""Ends in the middle of work: a buffer is dropped, a pass of S_h is under way, a command runs under another's
signals."""

import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from typer.testing import CliRunner

from lowlat.cli import app
from lowlat.runtime import FrameBuffer
from lowlat.runtime.cpu.threads import CoreSplit, ThreadWorker
from lowlat.runtime.protocols import Job, WallClock

PATIENCE_S = 60
"""Only ever waited for when a test fails."""


@pytest.mark.parametrize("overload", ["drop-oldest", "wait"])
def test_a_buffer_that_is_dropped_ends_its_capture(overload):
    """It ends without `close`, although its source would go on for ever."""
    taken, ended = threading.Semaphore(0), threading.Event()

    def source():
        try:
            while True:
                taken.release()
                yield 0
        finally:
            ended.set()

    buffer = FrameBuffer(overload)
    buffer.capture(source())
    assert taken.acquire(timeout=PATIENCE_S) and buffer.get() is not None
    thread = buffer._thread
    buffer = None
    gc.collect()
    assert ended.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_program_that_ends_while_a_buffer_captures_succeeds():
    program = """
    import time
    from lowlat.runtime import FrameBuffer

    def source():
        while True:
            time.sleep(0.001)
            yield 0

    buffer = FrameBuffer("wait")
    buffer.capture(source())
    buffer.get()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_worker_is_closed_behind_the_part_of_s_h_under_way():
    """A pass of minutes must not be waited for, nor be left in torch's code when Python ends."""
    ran, at_second, go = [], threading.Event(), threading.Event()

    def parts(low):
        for part in range(5):
            ran.append(part)
            if part == 1:
                at_second.set()
                assert go.wait(PATIENCE_S)
            yield
        return "F_h"

    worker = ThreadWorker(parts, WallClock(), cores=CoreSplit(1, 1))
    worker.submit(Job(0, 0, "F_l"))
    assert at_second.wait(PATIENCE_S)
    closer = threading.Thread(target=worker.close)
    closer.start()
    while not worker._closed:
        pass
    go.set()
    closer.join(PATIENCE_S)
    assert not closer.is_alive() and not worker._thread.is_alive() and ran == [0, 1]


def test_a_worker_lands_what_its_parts_return():
    def parts(low):
        yield
        yield
        return f"F_h of {low}"

    worker, outcome = ThreadWorker(parts, WallClock(), cores=CoreSplit(1, 1)), None
    worker.submit(Job(0, 0, "F_l"))
    while outcome is None:
        outcome = worker.poll(1)
    worker.close()
    assert outcome.high == "F_h of F_l" and outcome.error is None


# A handler that is there before Python is, as in a program that embeds it: it tells on standard output.
HANDLER = """
#include <signal.h>
#include <unistd.h>
static void told(int number) { (void)!write(1, "from C\\n", 7); }
__attribute__((constructor)) static void set(void) { signal(SIGTERM, told); }
"""


def test_a_command_runs_where_a_signal_handler_was_set_from_c(tmp_path):
    """Python can't give such a one back; the command leaves it where it is."""
    source, library = tmp_path / "handler.c", tmp_path / "handler.so"
    source.write_text(HANDLER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    program = """
    import os, signal
    from typer.testing import CliRunner
    from lowlat.cli import app

    assert signal.getsignal(signal.SIGTERM) is None, "this test sets none"
    result = CliRunner().invoke(app, ["simulate", "--frames", "5"])
    assert (result.exit_code, result.exception) == (0, None), result.exception
    os.kill(os.getpid(), signal.SIGTERM)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "from C\n", "")


def test_a_command_runs_on_any_thread():
    """Handlers of signals are the first thread's to set."""
    got = []
    thread = threading.Thread(target=lambda: got.append(CliRunner().invoke(app, ["simulate", "--frames", "5"])))
    thread.start()
    thread.join(PATIENCE_S)
    assert [(result.exit_code, result.exception) for result in got] == [(0, None)]
