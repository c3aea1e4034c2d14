"""How the libraries are built, again and again from one checkout: what CMake finds, what setup.py and make tell it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
NEEDS_CMAKE = pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("ninja") is None, reason="no CMake")
NEEDS_NVCC = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def configure(folder: Path, environment: dict[str, str], **settings: str) -> str:
    """Configures a build and returns what CMake prints."""
    settings = {
        "SVCONV_TORCH_INCLUDE": str(Path(torch.__file__).with_name("include")),
        "SVCONV_CUDA": "OFF",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
        **settings,
    }
    definitions = [f"-D{name}={value}" for name, value in settings.items()]
    command = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *definitions]
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # CMake wraps what it says.
    return " ".join(done.stdout.split())


@NEEDS_CMAKE
@NEEDS_NVCC
def test_a_compiler_for_cuda_may_come_later_and_must_know_the_architectures(tmp_path):
    assert "CUDA kernels: none: no nvcc" in configure(tmp_path, {"CUDACXX": "/absent/nvcc"}, SVCONV_CUDA="AUTO")
    assert "CUDA kernels: sm_80 sm_90 and PTX of compute_90" in configure(
        tmp_path, {}, SVCONV_CUDA="AUTO", SVCONV_CUDA_ARCHS="80 90"
    )
    unknown = {"SVCONV_CUDA_ARCHS": "80 990"}
    assert "CUDA kernels: none: nvcc knew no sm_990" in configure(tmp_path, {}, SVCONV_CUDA="AUTO", **unknown)
    assert "SVCONV_CUDA=ON: nvcc knows no sm_990" in configure(tmp_path, {}, SVCONV_CUDA="ON", **unknown)


@NEEDS_CMAKE
@NEEDS_NVCC
def test_the_library_that_forces_launches_is_built_but_not_installed(tmp_path):
    assert "CUDA kernels: sm_90" in configure(tmp_path, {}, SVCONV_CUDA="ON", SVCONV_CUDA_ARCHS="90")
    built, installed = ((tmp_path / name).read_text() for name in ("build.ninja", "cmake_install.cmake"))
    assert "svconv_tuning.so" in built and "svconv_ops.so" in installed
    assert "svconv_tuning" not in installed


@NEEDS_CMAKE
def test_a_compiler_without_what_the_kernels_use_is_refused_by_name(tmp_path):
    poor = program(tmp_path / "poor" / "c++", f'exec {shutil.which("c++") or "g++"} -D_Float16=absent "$@"')
    assert "expected a C++17 compiler with _Float16 and __builtin_shufflevector" in configure(
        tmp_path / "build", {"CXX": str(poor)}
    )


@NEEDS_CMAKE
def test_architectures_that_are_not_numbers_are_refused(tmp_path):
    said = configure(tmp_path, {}, SVCONV_CUDA="AUTO", SVCONV_CUDA_ARCHS="80;90")
    assert "SVCONV_CUDA_ARCHS: expected numbers separated by blanks, as in '80 90', got '80;90'" in said


def test_every_build_takes_the_ninja_at_hand(tmp_path):
    """The one that CMake remembers may have been in a folder of pip's that is gone."""
    for name in ("cmake", "ninja"):
        program(tmp_path / "bin" / name, 'echo "$@"')
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path]
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"-DCMAKE_MAKE_PROGRAM={tmp_path / 'bin' / 'ninja'}" in done.stdout.split()


def test_a_setuptools_that_cannot_read_the_project_is_refused_by_name(tmp_path):
    """Python 3.11 brings 65.5, which says "invalid pyproject.toml config" and no more."""
    (tmp_path / "setuptools.py").write_text('__version__ = "65.5.0"\n')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "setup.py", "--version"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    expected = 'setup.py: expected setuptools>=77, got 65.5.0; pip install "setuptools>=77", then build with '
    assert done.stderr.strip() == expected + "--no-build-isolation"


def test_make_builds_with_the_programs_that_it_installs(tmp_path):
    for name in ("python", "pip", "lowlat"):
        program(tmp_path / "venv" / "bin" / name, 'echo "$PATH"')
    command = ["make", "--silent", "demo", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = done.stdout.splitlines()
    assert len(paths) > 3 and all(path.startswith(f"{tmp_path / 'venv' / 'bin'}:") for path in paths)
