"""What the CPU kernels do with a type that they don't know, which no entry point lets through."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import svconv

HERE = Path(__file__).parent
CPU = HERE.parents[1] / "csrc" / "cpu"
COMPILER = os.environ.get("CXX") or shutil.which("g++")


@pytest.mark.skipif(COMPILER is None, reason="no g++")
def test_an_unknown_type_is_an_error(tmp_path):
    package = Path(svconv.__file__).parent
    command = [COMPILER, "-std=c++17", f"-I{CPU}", HERE / "unknown_type.cpp", f"-L{package}", "-lsvconv_cpu"]
    subprocess.run([*command, f"-Wl,-rpath,{package}", "-o", tmp_path / "program"], check=True)
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True)
    expected = "expected a Problem of float32, float64, float16 or bfloat16, got type number 4"
    assert done.returncode == 0 and done.stdout.count(expected) == 3, done
