"""Real processes: two that train as one, one that fails, one that is killed and run again."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from worker import recipe, train

from lowlat import models
from lowlat.lab.train import train as lowlat_train

WORKER = Path(__file__).with_name("worker.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LIMIT_S = 120  # of a run that hangs


def two(*words):
    return subprocess.run([*TORCHRUN, *map(str, words)], capture_output=True, text=True, timeout=LIMIT_S)


def losses(path):
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def test_two_processes_train_as_one(tmp_path, one_thread):
    done = two(WORKER, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    network, _ = train(tmp_path / "one", recipe())
    assert losses(tmp_path / "two" / "tiny.jsonl") == pytest.approx(losses(tmp_path / "one" / "tiny.jsonl"), rel=1e-4)
    both = torch.load(tmp_path / "two" / "final.pt")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(both[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_two_processes_are_two_passes_of_one(tmp_path, one_thread):
    """Passes have statistics of their own: with fixed batch norms the two differ by the order of sums alone."""
    done = two(WORKER, tmp_path / "two", "--norm", "fixed")
    assert done.returncode == 0, done.stderr
    network, _ = train(tmp_path / "one", recipe(accumulate=2), norm="fixed")
    assert losses(tmp_path / "two" / "tiny.jsonl") == pytest.approx(losses(tmp_path / "one" / "tiny.jsonl"), rel=1e-5)
    both = torch.load(tmp_path / "two" / "final.pt")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(both[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.thorough
def test_the_command_draws_pairs_by_two_processes_as_by_one(tmp_path, one_thread):
    """The selector's batch norms are fixed: two processes give the weights of one with --accumulate 2."""
    street = "street:64x48,seed=1,frames=6"
    options = ("--init", "lite", "--size", "64x48", "--steps", "5", "--batch", "4", "--seed", "3")
    done = two("-m", "lowlat", "train", "selector", "--data", street, "--out", tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    given = {"data": street, "init": "lite", "pixels": 64 * 48, "steps": 5, "batch": 4, "seed": 3}
    alone = lowlat_train("selector", out=tmp_path / "one", accumulate=2, **given)
    ours, theirs = (load_file(path) for path in (alone, tmp_path / "two" / "selector.safetensors"))
    start = load_file(models.find("lite"))
    assert any(not torch.equal(ours[name], start[name]) for name in ours if name.startswith("selector"))
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.thorough
def test_the_command_trains_the_real_network_by_two_processes(camvid, tmp_path, one_thread):
    options = ("--steps", "2", "--batch", "2", "--seed", "3", "--validate", camvid)
    done = two("-m", "lowlat", "train", "base", "--data", camvid, "--out", tmp_path / "two", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "two" / "base.safetensors")]
    lowlat_train("base", data=camvid, out=tmp_path / "one", steps=2, batch=2, seed=3, validate=camvid)
    rows = [
        [json.loads(line) for line in (tmp_path / runs / "base.jsonl").read_text().splitlines()]
        for runs in ("one", "two")
    ]
    for alone, shared in zip(*rows, strict=True):
        for name in set(alone) - {"seconds"}:
            # The Lovász loss is that of each process's own share.
            assert shared[name] == pytest.approx(alone[name], rel=2e-2), name
    with safe_open(tmp_path / "two" / "base.safetensors", "pt") as file:
        assert file.metadata()["validation"] == f"mIoU {rows[1][1]['validation']:.2f} on CamVid val after 2 steps"


@pytest.mark.parametrize(
    "fault, timeout, said",
    [
        ("error", 60, "got a hole"),
        pytest.param("silence", 3, "within 3 s", marks=pytest.mark.serial),
    ],
)
def test_a_process_that_fails_takes_the_other_along(tmp_path, fault, timeout, said):
    done = two(WORKER, tmp_path, "--fail", fault, "--timeout", timeout)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / "final.pt").exists()
    if fault == "silence":
        assert re.search(r"expected every process to answer process 0 of 2 within 3 s, lost one", done.stderr)


def test_a_run_killed_in_the_middle_goes_on_bit_for_bit(tmp_path, one_thread):
    # In float16: the scaler's state counts too.
    words = [sys.executable, str(WORKER), str(tmp_path / "killed"), "--precision", "float16"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.split() == ["drawn", "8"]:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert 5 <= len(losses(tmp_path / "killed" / "tiny.jsonl")) < 12
    resumed = subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    assert resumed.stdout.split()[:2] == ["drawn", "0"] and resumed.stdout.count("drawn") == 7, "began again"
    whole, _ = train(tmp_path / "whole", recipe(precision="float16"))
    assert losses(tmp_path / "killed" / "tiny.jsonl") == losses(tmp_path / "whole" / "tiny.jsonl")
    final = torch.load(tmp_path / "killed" / "final.pt")
    for name, value in whole.state_dict().items():
        assert torch.equal(final[name], value), name
