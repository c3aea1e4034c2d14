"""What is kept of a study: found again whole, never half, and only for the same inputs."""

import json

import pytest

from lowlat.lab.study.parts import Parts, Unit


def counted(kind="method", fail=False, **inputs):
    calls = []

    def compute():
        calls.append(1)
        if fail:
            raise KeyboardInterrupt
        return [{"miou": 61.5, "seed": inputs.get("seed")}]

    return Unit(kind, inputs, compute), calls


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
    assert calls and parts.path(unit) != parts.path(other)


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
    kept = json.loads(parts.path(unit).read_text())
    assert kept["inputs"] == {"seed": 4} and kept["seconds"] == parts.seconds(unit) >= 0


def test_a_damaged_file_is_named(tmp_path):
    parts = Parts(tmp_path)
    unit, _ = counted()
    parts.path(unit).write_text("{")
    with pytest.raises(ValueError, match=f"{parts.path(unit).name}.*remove it"):
        parts.rows(unit)
