"""The operator's tests with the Triton kernels, on the CPU in Triton's interpreter: in processes of their own, because
Triton asks once, when it is imported, whether to interpret."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("0", "1")
# How many tests must have passed at least in a part: none is lost unseen.
LEAST = 235


@pytest.fixture(scope="module")
def started():
    """Both parts at a time."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    tests = ["tests/svconv", "tests/triton"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--backend", "triton", "-W", "ignore"]
    processes = {
        part: subprocess.Popen(
            [*command, "--part", part, *tests],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for part in PARTS
    }
    yield processes
    for process in processes.values():
        process.kill()


@pytest.mark.parametrize("part", PARTS)
def test_the_operator_holds_in_the_interpreter(part, started):
    output, _ = started[part].communicate()
    assert started[part].returncode == 0, output
    assert int(re.search(r"(\d+) passed", output)[1]) >= LEAST, output
