"""`make gpu`'s script as far as a machine without a GPU allows: its stages on the simulator and the CPU, what it keeps
when one fails, and that what it runs exists."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import run
from run import Gpu, Stage

from svconv.info import built_for

H200 = Gpu("NVIDIA H200", "90", 143771)
ANSWER = "9.0, 143771, NVIDIA H200"


def script(*arguments, **environment):
    command = [sys.executable, run.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.thorough
def test_every_stage_runs_simulated_or_says_why_not(tmp_path):
    done = script("--simulate", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + "".join(log.read_text() for log in tmp_path.glob("*.log"))
    status = json.loads((tmp_path / "status.json").read_text())
    outcomes = {stage["stage"]: (stage["status"], stage["why"]) for stage in status["stages"]}
    assert list(outcomes) == list(run.stages_on(H200, tmp_path))
    assert outcomes.pop("build")[0] == "not run"
    assert set(outcomes.values()) == {("passed", "")}
    assert list(tmp_path.glob("*live-64.json")) and list(tmp_path.glob("*.png"))


def test_without_a_gpu_it_refuses(tmp_path):
    done = script(PATH=str(tmp_path))
    assert done.returncode == 1 and "no NVIDIA GPU here (no nvidia-smi)" in done.stdout


def test_the_gpu_at_hand_gives_architecture_and_folder(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho '{ANSWER}'\necho '{ANSWER}'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert run.find_gpu() == H200
    assert H200.folder.name == "nvidia-h200"


def test_whether_the_build_is_for_a_gpu_is_what_svconv_says():
    assert [run.built_for(architecture) for architecture in ("90", "75")] == [built_for(90), False]


OUTCOMES = {
    "a command that fails": (Stage((("false",), ("true",))), "failed", "exit status 1 of false"),
    "a stage that takes too long": (Stage((("sleep", "60"),), 0.2), "failed", "stopped after 0 s: sleep 60"),
    "a package that is missing": (Stage((("true",),), needs=("absent",)), "not run", "not on this machine: absent"),
    "a stage that cannot run": (Stage(why_not="a reason"), "not run", "a reason"),
    "a stage that passes": (Stage((("true",),)), "passed", ""),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_became_of_a_stage_is_told(outcome, tmp_path):
    stage, status, why = OUTCOMES[outcome]
    told = run.run("stage", stage, tmp_path / "stage.log", stage.seconds, {})
    assert (told.status, told.why) == (status, why)


def test_the_kernels_stage_selects_tests_of_the_simulator(tmp_path):
    (command,) = run.stages_on(H200, tmp_path)["kernels"].commands
    done = subprocess.run([*command, "--collect-only"], cwd=run.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for name in ("mma_m16n8k16", "mma_m16n8k8", "matrices", "shuffles", "votes", "types", "reference", "launch"):
        assert name in done.stdout


def test_every_file_that_a_stage_names_exists():
    for stages in (run.stages_on(H200, Path("out")), run.stages_off(Path("out"))):
        words = [word for stage in stages.values() for command in stage.commands for word in command]
        assert all((run.ROOT / word).exists() for word in words if word.startswith("tests/"))


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc: the simulator's programs are not built for a GPU")
def test_the_simulators_programs_build_for_a_gpu():
    program = "import on_gpu, simulated; print(on_gpu.build([simulated.HERE / 'primitives.cu'], architecture='sm_90'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=run.ROOT / "tests" / "simulator", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).exists()
