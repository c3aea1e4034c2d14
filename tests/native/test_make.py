"""What make runs: all of `make test` is in `make check`, and the tools for Arm are found, installed or asked for."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make")


def steps(target: str, folder: Path, **variables: str) -> list[list[str]]:
    """The words of each command that make would run for a target, in an environment that is ready."""
    (folder / ".ready").touch()
    settings = [f"{name}={value}" for name, value in {"VENV": folder, **variables}.items()]
    command = [MAKE, "--dry-run", "--no-print-directory", target, *settings]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [shlex.split(line) for line in printed.replace("\\\n", " ").splitlines()]


def marks(target: str, folder: Path) -> list[tuple[bool, str]]:
    """Returns for each call of pytest whether it runs several processes, and which marks it selects."""
    calls = [words for words in steps(target, folder) if "pytest" in words and "for" not in words]
    assert all("--durations=25" in words for words in calls)
    return [("-n" in words, words[-1]) for words in calls]


def test_check_runs_the_tests_of_test_and_the_thorough_ones(tmp_path):
    every = [(True, "not serial and not memory"), (False, "serial and not memory")]
    assert marks("check", tmp_path) == every
    rest = " and not thorough and not memory"
    quick = [(parallel, chosen.replace(" and not memory", rest)) for parallel, chosen in every]
    assert marks("test", tmp_path) == quick


def test_both_look_at_the_style_and_check_at_all_the_rest(tmp_path):
    test, check = (
        [" ".join(words).replace(f"{tmp_path}/bin/", "") for words in steps(target, tmp_path)]
        for target in ("test", "check")
    )
    assert test[:2] == check[:2] == ["ruff check .", "ruff format --check ."]
    for step in ("qemu-aarch64-static build/", ".ci/wheel python build", "lowlat study --quick --out build/study"):
        assert any(line.startswith(step) for line in check), step


def test_the_operators_names_are_looked_for_in_every_release_asked_for(tmp_path):
    (loop,) = [words for words in steps("torch-names", tmp_path, TORCHES="2.10.0 2.12.1") if "for" in words]
    assert loop[loop.index("in") :][1:3] == ["2.10.0", "2.12.1;"]
    assert "tests/svconv/test_svconv_torch_names.py;" in loop


@pytest.fixture
def arm_tools(tmp_path):
    """Runs `make arm-tools` as a user of some number on a machine whose only programs are those of a folder."""

    def run(user: int):
        program(tmp_path / "id", f"echo {user}")
        environment = {**os.environ, "PATH": str(tmp_path)}
        return subprocess.run([MAKE, "arm-tools"], cwd=ROOT, env=environment, capture_output=True, text=True)

    return run


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("user", [0, 1000])
def test_missing_tools_for_arm_are_named(user, arm_tools):
    done = arm_tools(user)
    assert done.returncode != 0
    assert "expected aarch64-linux-gnu-g++ and qemu-aarch64-static on the PATH, found not both" in done.stderr


def test_root_installs_the_tools_for_arm_and_others_do_not(tmp_path, arm_tools):
    tools = {"g++-aarch64-linux-gnu": "aarch64-linux-gnu-g++", "qemu-user-static": "qemu-aarch64-static"}
    chmod = shutil.which("chmod")
    made = [
        f"for word; do [ $word != {package} ] || {{ : > {tmp_path / name}; {chmod} +x {tmp_path / name}; }}; done"
        for package, name in tools.items()
    ]
    program(tmp_path / "apt-get", "\n".join(made))
    assert arm_tools(1000).returncode != 0
    assert arm_tools(0).returncode == 0
