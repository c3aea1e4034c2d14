"""Examples kept on disk: whole or not there, gone on with after a kill, and refused where they are others."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lowlat import models
from lowlat.lab.train import train
from lowlat.lab.train.recipe import change
from lowlat.lab.train.recipes import recipe_of
from lowlat.lab.train.shelf import TOGETHER, Shelf

STREET = "street:64x48,seed=1,frames=6"
LIMIT_S = 120
PROGRAM = """
import sys
import time
from pathlib import Path
import torch
from lowlat.lab.train.shelf import Shelf

def draw(numbers, generator):
    print("drawn", numbers.start, flush=True)
    if str(numbers.start) == sys.argv[2]:
        time.sleep(600)
    return [torch.rand(len(numbers), 3, generator=generator)]

Shelf("numbers", draw, 43, seed=5, folder=Path(sys.argv[1]))
"""


def draw(numbers, generator):
    return [torch.rand(len(numbers), 3, generator=generator), torch.tensor(list(numbers))]


def numbers(folder=None, count=43, **options):
    return Shelf("numbers", draw, count, seed=5, folder=folder, **options)


def test_examples_are_the_same_on_disk_and_in_memory(tmp_path):
    kept, held = numbers(tmp_path), numbers()
    assert len(kept) == len(held) == 43 and len(list(tmp_path.glob("*.pt"))) == -(-43 // TOGETHER)
    for place in (0, 1):
        assert torch.equal(kept.column(place), held.column(place))
    assert kept.column(1).tolist() == list(range(43)) and len(kept.column(0).unique()) == 43 * 3
    one, other = (shelf.batch(9, torch.Generator().manual_seed(1)) for shelf in (kept, held))
    assert all(map(torch.equal, one, other))
    assert torch.equal(one[0], held.column(0)[one[1]]), "rows are mixed up"
    kept.remove()
    assert not tmp_path.exists() and torch.equal(kept.column(0), held.column(0))


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path):
    words, last = [sys.executable, "-c", PROGRAM, str(tmp_path)], str(3 * TOGETHER)
    with subprocess.Popen([*words, last], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.split() == ["drawn", last]:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    there = {path.name for path in tmp_path.glob("[0-9]*.pt")}
    assert len(there) == 3
    done = subprocess.run([*words, ""], check=True, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.count("drawn") == -(-43 // TOGETHER) - 3, "what was there was drawn again"
    assert torch.equal(numbers(tmp_path).column(0), numbers().column(0))


def test_other_examples_are_refused(tmp_path):
    numbers(tmp_path, about={"data": "a"})
    numbers(tmp_path, about={"data": "a"})
    for options, words in (({"about": {"data": "b"}}, "data=a as in .*about.json, got b"), ({"count": 40}, "count=43")):
        with pytest.raises(ValueError, match=f"train: expected {words}"):
            numbers(tmp_path, **{"about": {"data": "a"}, **options})
    part = tmp_path / "00001.pt"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"00001\.pt, got a file that can't be read .* remove it to draw them again"):
        numbers(tmp_path, about={"data": "a"})
    part.unlink()
    assert torch.equal(numbers(tmp_path, about={"data": "a"}).column(0), numbers().column(0))
    (tmp_path / "about.json").write_text("half")
    with pytest.raises(ValueError, match=r"about\.json, got a file that can't be read .* to start afresh"):
        numbers(tmp_path, about={"data": "a"})


def test_a_disk_that_is_too_small_is_told_before_it_is_full(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=200)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(ValueError, match=r"GB of free disk at .* for 43 numbers, .* by --pairs 0, .* by --bank"):
        numbers(tmp_path)
    assert not list(tmp_path.glob("*.pt"))


def test_a_bank_is_no_larger_than_the_steps_can_look_at():
    recipe = recipe_of("lite", "propagation")
    assert recipe.kept_pairs() == recipe.pairs < recipe.steps * recipe.batch
    assert change(recipe, steps=4).kept_pairs() == 4 * recipe.batch
    assert change(recipe, pairs=10).kept_pairs() == 10
    assert change(recipe, pairs=0).kept_pairs() == 0


def test_a_stopped_stage_goes_on_from_the_pairs_it_has_kept(tmp_path, one_thread, monkeypatch):
    options = {"data": STREET, "init": "lite", "pixels": 64 * 48, "steps": 8, "batch": 3, "bank": tmp_path / "bank"}
    whole = models.load(train("propagation", out=tmp_path / "whole", **options)).state_dict()
    assert not list((tmp_path / "bank").iterdir())
    save, saved = Shelf._drawn, []

    def stopped(self, number, part):
        if number == 2:
            raise KeyboardInterrupt
        saved.append(number)
        return save(self, number, part)

    monkeypatch.setattr(Shelf, "_drawn", stopped)
    with pytest.raises(KeyboardInterrupt):
        train("propagation", out=tmp_path / "stopped", **options)
    kept = tmp_path / "bank" / "propagation.pairs"
    assert saved == [0, 1] and json.loads((kept / "about.json").read_text())["count"] == 24
    monkeypatch.setattr(Shelf, "_drawn", lambda self, number, part: saved.append(number) or save(self, number, part))
    with pytest.raises(ValueError, match=r"expected pixels=3072 as in .*about\.json, got 1500"):
        train("propagation", out=tmp_path / "stopped", **{**options, "pixels": 1500})
    again = models.load(train("propagation", out=tmp_path / "stopped", **options)).state_dict()
    assert saved == [0, 1, 2] and not kept.exists()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert Path(tmp_path / "stopped" / "propagation.jsonl").read_text().count("\n") == 8
