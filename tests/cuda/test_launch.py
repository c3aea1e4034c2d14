"""Launches of the CUDA kernels on the host's side, where threads may launch one kernel at a time."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc: nothing is launched by such a build")
def test_launches_of_one_kernel_in_several_threads_leave_each_other_their_shared_memory(tmp_path):
    program = tmp_path / "launch"
    # runtime.cpp comes before CUDA's own runtime.
    command = ["nvcc", "-std=c++17", "-Xlinker", "-zmuldefs", f"-I{CSRC}", f"-I{CSRC / 'cuda'}", "-o", program]
    subprocess.run([*command, HERE / "launch.cu", HERE / "runtime.cpp"], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "0\n"
