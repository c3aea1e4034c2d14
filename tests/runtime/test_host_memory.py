"""Memory that is freed stays with the process: in processes of their own, since it can't be taken back."""

import mmap
import subprocess
import sys

import pytest

from lowlat.jobs.host_memory import resident_mb

# Three blocks of 24 MiB, as large as features; freed together they are more than glibc keeps.
ROUNDS = """
import ctypes, resource, sys, threading
from lowlat.jobs.host_memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if "kept" in sys.argv:
    assert keep_freed_memory()
def rounds():
    for measured in (False, True):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            blocks = [libc.malloc(24 << 20) for _ in range(3)]
            for block in blocks:
                ctypes.memset(block, 1, 24 << 20)
            for block in blocks:
                libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if "thread" in sys.argv:
    thread = threading.Thread(target=rounds)
    thread.start()
    thread.join()
else:
    rounds()
"""


def faults(*words):
    done = subprocess.run([sys.executable, "-c", ROUNDS, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize("words", [(), ("thread",)], ids=["main thread", "another thread"])
def test_memory_that_is_kept_costs_no_page_faults(words):
    assert faults("kept", *words) < 500 < 20_000 < faults(*words)


def test_memory_in_use_is_counted():
    before = resident_mb()
    # The memory comes from the system: what the allocator has kept counts as in use already.
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(b"1" * (64 << 20))
        assert resident_mb() - before > 50
