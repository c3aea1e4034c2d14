"""Which tests run where, and by how many threads, as tests/conftest.py and pyproject.toml have it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE = """
import os
import pytest
import torch

@pytest.mark.parametrize("case", range(5))
@pytest.mark.sample(2)
def test_sampled(case):
    pass

@pytest.mark.thorough
def test_thorough():
    pass

@pytest.mark.serial
def test_serial():
    pass

@pytest.mark.parametrize("case", range(2))
def test_quick(case):
    assert torch.get_num_threads() == 1

@pytest.mark.memory
def test_that_leaves_another_number_of_threads():
    torch.set_num_threads(2)
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest on FILE under this repository's settings; gives what it printed."""
    for name in ("conftest.py", "tiny_networks.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_file.py").write_text(FILE)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "PYTEST_"))}
    environment = {**outside, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout

    return run


def passed(output):
    return dict.fromkeys(re.findall(r"test_file.py::(\w+(?:\[\d+\])?)\S* PASSED", output))


def test_thorough_tests_are_left_out_unless_asked_for(run):
    sampled = [f"test_sampled[{case}]" for case in range(5)]
    quick = [f"test_quick[{case}]" for case in range(2)]
    assert [*passed(run("-v"))] == [*sampled[::2], "test_serial", *quick]
    assert [*passed(run("-v", "-m", "not memory"))] == [*sampled, "test_thorough", "test_serial", *quick]


def test_one_case_that_is_named_is_run(run):
    assert [*passed(run("-v", "tests/test_file.py::test_sampled[1]"))] == ["test_sampled[1]"]


def test_a_test_that_leaves_another_number_of_threads_fails(run):
    assert "expected the test to leave 1 threads as it found them, got 2" in run("-m", "memory")
