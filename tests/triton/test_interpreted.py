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
# How many tests must have passed at least in a part, and of the few: none is lost unseen.
LEAST, LEAST_OF_FEW = 250, 15
# Sums and gradients in every type and layout, and a fault in each file of kernels.
FEW = (
    "test_gradients_of_every_type_and_layout or expanded_tensors or large_logits or nan_comes_through or a-tap-shifted "
    "or no-softmax-maximum or no-mean-in-the-exact-derivative"
)


# A compiled program takes Triton's operator apart, and with it what looks at addresses in every run (docs/triton.md).
NOT_HELD = "tests/svconv/test_svconv_out.py::test_compiled_programs_refuse_shared_memory_in_every_run"


def start(*selection: str) -> subprocess.Popen:
    """Return a process that runs the selected tests of the operator and of the faults in the interpreter."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--backend", "triton", "-W", "ignore"]
    return subprocess.Popen(
        [*command, "-m", "not memory", "--deselect", NOT_HELD, *selection, "tests/svconv", "tests/triton"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check(process: subprocess.Popen, least: int) -> None:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert int(re.search(r"(\d+) passed", output)[1]) >= least, output


def test_a_few_tests_of_the_operator_hold_in_the_interpreter():
    check(start("-k", FEW), LEAST_OF_FEW)


@pytest.fixture(scope="module")
def started():
    """Both parts at a time."""
    processes = {part: start("--part", part) for part in PARTS}
    yield processes
    for process in processes.values():
        process.kill()


@pytest.mark.thorough
@pytest.mark.parametrize("part", PARTS)
def test_the_operator_holds_in_the_interpreter(part, started):
    check(started[part], LEAST)
