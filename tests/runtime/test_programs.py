"""Programs that use a segmenter and don't close it: they end, are interrupted, fork. Real ones, several times each
where the fault is by chance."""

import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = [
    pytest.mark.sample(3),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX"),
]

PATIENCE_S = 300
"""Only ever waited for when a test fails."""
TIMES = 3
"""Runs of a program whose fault is by chance."""

SETTING = """
    import atexit, os, sys, threading, time
    import numpy as np
    import torch
    from lowlat.runtime.stages import NetworkStages
    from lowlat.segmenter import VideoSegmenter

    numbers = np.random.default_rng(0)

    def cut():  # every frame is another scene, so that S_h is launched
        return numbers.integers(0, 255, (120, 160, 3), dtype=np.uint8)

    higher, higher_parts = NetworkStages.higher, NetworkStages.higher_parts
    wanted, under_way = threading.Event(), threading.Event()

    def slow(self, low):  # if wanted, a second in torch's code, in small steps that each ask for Python's lock
        if not wanted.is_set():
            return higher(self, low)
        under_way.set()
        until, ones = time.monotonic() + 1, torch.ones(64, 64)
        while time.monotonic() < until:
            ones @ ones

    def slow_parts(self, low):
        if not wanted.is_set():
            return (yield from higher_parts(self, low))
        yield
        return slow(self, low)

    NetworkStages.higher, NetworkStages.higher_parts = slow, slow_parts

    def get_s_h_under_way(segmenter):
        segmenter.step(cut())
        wanted.set()
        while not segmenter.step(cut()).launched:
            pass
        under_way.wait()
"""


def started(program):
    """The program, with pipes for what it says."""
    code = textwrap.dedent(SETTING) + textwrap.dedent(program)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes)


def ended(process):
    """Exit status, stdout and stderr of a program; it is killed, and the test fails, if it hangs."""
    try:
        out, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    return process.returncode, out, errors


def test_a_program_that_ends_without_closing_its_segmenter_succeeds_every_time():
    program = """
    segmenter = VideoSegmenter(pixels=120 * 160)
    for _ in range(5):
        segmenter.step(cut())
    """
    for process in [started(program) for _ in range(TIMES)]:
        assert ended(process) == (0, "", "")


@pytest.mark.parametrize("isolation", ["segment", "priority"])
@pytest.mark.parametrize("ending", ["pass", "segmenter = None", "segmenter.restart()"])
def test_a_program_that_ends_while_s_h_is_under_way_succeeds(isolation, ending):
    program = f"""
    segmenter = VideoSegmenter(isolation="{isolation}", pixels=120 * 160)
    get_s_h_under_way(segmenter)
    {ending}
    """
    assert ended(started(program)) == (0, "", "")


@pytest.mark.parametrize(
    "options", ["isolation='priority'", "policy=PerFrame(), mode='blocking'", "isolation='segment'"]
)
def test_a_program_that_ends_while_a_daemon_thread_labels_succeeds(options):
    """The thread is in torch's code, or comes to it while Python shuts down."""
    program = f"""
    from lowlat.schedule import PerFrame

    def label():
        for result in segmenter.run(cut() for _ in iter(int, 1)):
            labelled.release()

    labelled, segmenter = threading.Semaphore(0), VideoSegmenter(pixels=120 * 160, {options})
    threading.Thread(target=label, daemon=True).start()
    labelled.acquire()
    """
    for process in [started(program) for _ in range(TIMES)]:
        assert ended(process) == (0, "", "")


@pytest.mark.parametrize("presses", [1, 2, 3])
@pytest.mark.parametrize("use", ["with {} as segmenter", "for segmenter in [{}]"])
def test_a_program_that_is_interrupted_again_and_again_is_not_aborted(use, presses):
    """Ctrl-C comes while the program waits, while it closes the segmenter, and while it ends."""
    program = f"""
    {use.format("VideoSegmenter(pixels=120 * 160)")}:
        get_s_h_under_way(segmenter)
        print("ready", flush=True)
        time.sleep({PATIENCE_S})
    """
    process = started(program)
    assert process.stdout.readline() == "ready\n"
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        pause(process, 0.1)
    status, _, errors = ended(process)
    assert status == -signal.SIGINT and "KeyboardInterrupt" in errors and "terminate called" not in errors


def pause(process, seconds):
    """Lets the program get on, as somebody does between two presses of Ctrl-C."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


@pytest.mark.parametrize("presses", [1, 3])
def test_interrupts_while_the_program_ends_do_not_break_off_the_end_of_its_threads(presses):
    program = """
    segmenter = VideoSegmenter(pixels=120 * 160)
    get_s_h_under_way(segmenter)
    atexit.register(print, "ending", flush=True)
    """
    process = started(program)
    assert process.stdout.readline() == "ending\n"
    for _ in range(presses):
        pause(process, 0.05)
        process.send_signal(signal.SIGINT)
    status, _, errors = ended(process)
    # One that comes after Python has given its handlers back ends the program where it is.
    assert status in (0, -signal.SIGINT) and "terminate called" not in errors


@pytest.mark.thorough
def test_a_dropped_segmenter_gives_back_its_memory():
    program = """
    import gc
    from pathlib import Path

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    gc.disable()
    for isolation in ("segment", "priority"):
        measured = []
        for _ in range(10):
            segmenter = VideoSegmenter(isolation=isolation, pixels=120 * 160)
            segmenter.step(cut())
            segmenter = None
            measured.append(resident())
        print(round(measured[-1] - measured[3]), threading.active_count())
    """
    status, out, errors = ended(started(program))
    assert status == 0, errors
    for line in out.splitlines():
        grown, threads = map(int, line.split())
        # Six copies of the weights would be over a hundred; the pool of large results keeps some.
        assert grown < 80 and threads == 1, "MiB over six segmenters"


FORKS = """
    segmenter = VideoSegmenter(pixels=120 * 160)
    results = segmenter.run(iter([cut(), cut(), cut()]))
    next(results)

    def refused(use):
        try:
            use()
        except RuntimeError as error:
            return str(error)

    child = os.fork()
    if child == 0:
        with segmenter:
            print(refused(lambda: segmenter.step(cut())))
            print(refused(lambda: next(segmenter.run([cut()]))))
            print(refused(lambda: next(results)))
            print(refused(segmenter.restart))
        segmenter.close()
        {child}
        {leave}
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("child", status, flush=True)
    print("parent", next(results).index, segmenter.step(cut()).index)
"""
MEND = "expected the process that made the segmenter, got a fork of it without its threads; make one in the child"


@pytest.mark.parametrize("leave", ["os._exit(0)", "del segmenter, results; sys.exit()"])
def test_a_segmenter_inherited_by_a_fork_is_refused_and_the_parents_goes_on(leave):
    child = "sys.stdout.flush()"
    status, out, errors = ended(started(FORKS.format(child=child, leave=leave)))
    words = [f"VideoSegmenter.{method}: {MEND}" for method in ("step", "run", "run", "restart")]
    assert (status, out.splitlines(), errors) == (0, [*words, "child 0", "parent 1 2"], "")


@pytest.mark.parametrize("isolation", ["segment", "priority"])
@pytest.mark.parametrize("before", ["pass", "torch.set_num_threads(2); torch.rand(1 << 22).exp_()"])
def test_the_mend_works_a_segmenter_made_in_the_child(isolation, before):
    """A parent that has computed by several threads on the one that forks makes no difference."""
    child = f"""
        own = VideoSegmenter(isolation="{isolation}", pixels=120 * 160)
        print(own.step(cut()).labels.shape, own.step(cut()).index)
        sys.stdout.flush()
    """
    program = textwrap.dedent(FORKS).replace("child = os.fork()", f"{before}\nchild = os.fork()")
    program = program.format(child=textwrap.indent(textwrap.dedent(child), "    ").strip(), leave="sys.exit()")
    status, out, errors = ended(started(program))
    assert (status, out.splitlines()[4:], errors) == (0, ["(120, 160) 1", "child 0", "parent 1 2"], "")


def test_a_buffer_inherited_by_a_fork_is_refused_and_the_parents_goes_on():
    program = """
    from lowlat.runtime import FrameBuffer

    def source():
        while True:
            time.sleep(0.001)
            yield 0

    buffer = FrameBuffer(clock=None)
    buffer.capture(source())
    buffer.get()
    child = os.fork()
    if child == 0:
        for use in (buffer.get, lambda: buffer.put(0)):
            try:
                use()
            except RuntimeError as error:
                print(error)
        print(buffer.close(), flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), buffer.get().index > 0)
    """
    mend = (
        "expected the process that made the buffer, got a fork of it without its capture thread; make one in the child"
    )
    said = [*(f"FrameBuffer.{method}: {mend}" for method in ("get", "put")), "True", "0 True"]
    status, out, errors = ended(started(program))
    assert (status, out.splitlines(), errors) == (0, said, "")
