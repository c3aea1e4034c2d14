"""The operator's tests with the Triton kernels, on the CPU in Triton's interpreter: in processes of their own, because
Triton asks once, when it is imported, whether to interpret."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = "tests/svconv/test_svconv_products.py"
# What is run, and how many tests must have passed at least.
PARTS = {
    "products": ([PRODUCTS], 25),
    "all the rest": (["tests/svconv", "--ignore", PRODUCTS], 12),
}


@pytest.fixture(scope="module")
def started():
    """Both at a time."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--backend", "triton", "-W", "ignore"]
    processes = {
        part: subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for part, (arguments, _) in PARTS.items()
    }
    yield processes
    for process in processes.values():
        process.kill()


@pytest.mark.parametrize("part", PARTS)
def test_the_operator_holds_in_the_interpreter(part, started):
    output, _ = started[part].communicate()
    assert started[part].returncode == 0, output
    assert int(re.search(r"(\d+) passed", output)[1]) >= PARTS[part][1], output
