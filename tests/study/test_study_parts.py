"""What is kept of a study: found again whole, never half, and only for the same inputs."""

import json
import os

import pytest

from lowlat.lab.study.parts import Parts, Unit


def counted(kind="method", fail=False, intact=lambda rows: True, **inputs):
    calls = []

    def compute():
        calls.append(1)
        if fail:
            raise KeyboardInterrupt
        return [{"miou": 61.5, "seed": inputs.get("seed")}]

    return Unit(kind, inputs, compute, intact), calls


def kept(folder):
    return [json.loads(line) for line in (folder / "parts.jsonl").read_text().splitlines()]


def test_a_finished_unit_is_not_measured_again(tmp_path):
    unit, calls = counted(seed=0, data="street")
    first = Parts(tmp_path).rows(unit)
    assert Parts(tmp_path).rows(unit) == first == [{"miou": 61.5, "seed": 0}]
    assert len(calls) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 3}, {"weights": "b"}])
def test_other_inputs_are_another_unit(tmp_path, change):
    parts = Parts(tmp_path)
    unit, _ = counted(seed=0, steps=2, weights="a")
    other, calls = counted(**{"seed": 0, "steps": 2, "weights": "a", **change})
    parts.rows(unit)
    parts.rows(other)
    assert calls and [part["inputs"] for part in kept(tmp_path)] == [unit.inputs, other.inputs]


def test_a_table_is_complete_with_all_its_units_and_none_without_any(tmp_path):
    parts, units = Parts(tmp_path), [counted(seed=seed)[0] for seed in (0, 1)]
    parts.rows(units[0])
    assert parts.complete(units[:1]) and not parts.complete(units) and not parts.complete([])


def test_the_order_of_inputs_does_not_matter(tmp_path):
    assert Unit("method", {"a": 1, "b": 2}, list).digest == Unit("method", {"b": 2, "a": 1}, list).digest


def test_a_unit_that_was_killed_leaves_nothing(tmp_path):
    parts = Parts(tmp_path)
    unit, _ = counted(fail=True)
    with pytest.raises(KeyboardInterrupt):
        parts.rows(unit)
    assert unit not in parts and not list(tmp_path.iterdir())


def test_a_kept_unit_says_what_went_into_it_and_how_long_it_took(tmp_path):
    parts = Parts(tmp_path)
    unit, _ = counted(seed=4)
    parts.rows(unit)
    (part,) = kept(tmp_path)
    assert part["inputs"] == {"seed": 4} and part["seconds"] == parts.seconds(unit) >= 0


def test_a_unit_is_on_the_disk_before_the_next_one_begins(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(os, "fsync", lambda file: written.append(len(kept(tmp_path))))
    for seed in range(3):
        Parts(tmp_path).rows(counted(seed=seed)[0])
    assert written == [1, 2, 3]


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_torn_last_line_costs_its_own_unit_alone(tmp_path, left):
    units = [counted(seed=seed) for seed in range(3)]
    for unit, _ in units:
        Parts(tmp_path).rows(unit)
    lines = (tmp_path / "parts.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "parts.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:left])
    parts = Parts(tmp_path)
    assert [unit in parts for unit, _ in units] == [True, True, False]
    for unit, _ in units:
        parts.rows(unit)
    assert [len(calls) for _, calls in units] == [1, 1, 2]
    assert [part["inputs"]["seed"] for part in kept(tmp_path)] == [0, 1, 2]


def test_units_that_another_process_has_added_are_found(tmp_path):
    mine, theirs = Parts(tmp_path), Parts(tmp_path)
    units = [counted(seed=seed) for seed in range(2)]
    mine.rows(units[0][0])
    theirs.rows(units[1][0])
    for unit, calls in units:
        assert mine.rows(unit) == theirs.rows(unit) and len(calls) == 1


def test_a_unit_whose_files_are_gone_is_measured_again(tmp_path):
    (tmp_path / "picture.png").touch()
    unit, calls = counted(intact=lambda rows: (tmp_path / "picture.png").exists())
    for _ in range(2):
        Parts(tmp_path).rows(unit)
    assert len(calls) == 1
    (tmp_path / "picture.png").unlink()
    assert unit not in Parts(tmp_path)
    Parts(tmp_path).rows(unit)
    assert len(calls) == 2


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "method"}'])
def test_a_damaged_line_is_named(tmp_path, line):
    parts = Parts(tmp_path)
    unit, _ = counted()
    parts.rows(unit)
    with parts.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*parts\.jsonl.*remove that line"):
        Parts(tmp_path).rows(unit)
