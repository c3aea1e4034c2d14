"""Triton absent, too old or off its device: a reason, never an import error."""

import subprocess
import sys

import pytest
import torch

import svconv

# What each program finds in place of Triton.
ABSENT = "import sys; sys.modules['triton'] = None"
BROKEN = """
import sys
from importlib.abc import MetaPathFinder
class Finder(MetaPathFinder):
    def find_spec(self, name, *rest):
        if name == "triton":
            raise ImportError("libnothing.so: cannot open")
sys.meta_path.insert(0, Finder())
"""
OLD = "import sys, triton; triton.__version__ = '2.1.0'"
CASES = {
    "absent": (ABSENT, "it needs Triton 3.4 or newer, which can't be imported"),
    "broken": (BROKEN, "libnothing.so"),
    "old": (OLD, "it needs Triton 3.4 or newer, got 2.1.0; pip install --upgrade triton"),
}
PROGRAM = """
import svconv, torch
from svconv.dispatch import BACKENDS
reason = BACKENDS["triton"].obstacle(device_type="cuda")
assert sys.argv[1] in reason, reason
assert "triton" in str(svconv.backends())
cpu = torch.ones(1, 2, 4, 5), torch.ones(1, 9, 4, 5)
assert svconv.svconv2d(*cpu, kernel_size=3).shape == (1, 2, 4, 5)
with torch._subclasses.FakeTensorMode():
    tensors = [torch.empty(1, channels, 4, 5, device="cuda") for channels in (2, 9)]
    assert reason in str(svconv.explain(*tensors, kernel_size=3))
    try:
        svconv.svconv2d(*tensors, kernel_size=3, backend="triton")
    except ValueError as error:
        assert reason in str(error)
    else:
        raise SystemExit("no error")
"""


@pytest.mark.parametrize("case", CASES)
def test_a_triton_that_cannot_be_used_is_explained(case):
    prelude, reason = CASES[case]
    done = subprocess.run([sys.executable, "-c", prelude + PROGRAM, reason], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tensors_on_the_cpu_need_the_interpreter():
    tensors = torch.ones(1, 2, 4, 5), torch.ones(1, 9, 4, 5)
    with pytest.raises(ValueError, match="it runs on CUDA tensors, got tensors on 'cpu' .Triton's interpreter is off"):
        svconv.svconv2d(*tensors, kernel_size=3, backend="triton")


def test_the_kernels_are_imported_by_their_first_use_alone():
    program = (
        "import sys, svconv, torch; svconv.svconv2d(torch.ones(1, 2, 4, 5), torch.ones(1, 9, 4, 5), kernel_size=3); "
        "raise SystemExit('svconv.triton.ops' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_is_chosen_where_the_cuda_kernels_cannot_run():
    with torch._subclasses.FakeTensorMode():
        tensors = torch.empty(1, 2, 4, 5, device="cuda"), torch.empty(1, 9, 4, 5, device="cuda")
        chosen = svconv.explain(*tensors, kernel_size=3).chosen
    assert chosen == ("triton" if svconv.build_info()["cuda"].startswith("none") else "cuda")
