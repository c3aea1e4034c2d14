"""A whole study of a tiny network: every table is made, kept, and says what was measured."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from small_study import SMALL, STREET

from lowlat import models
from lowlat.lab import study as room
from lowlat.lab.study import TABLES, study
from lowlat.lab.study.parts import Parts
from lowlat.lab.weights import BETWEEN_KEY_FRAMES, save


@pytest.fixture(scope="module")
def made(tiny_weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    options = {"data": [STREET], "weights": [str(tiny_weights)], "out": out, "settings": SMALL}
    return options, study(**options, command="lowlat study")


def rows(made, table, **wanted):
    return [row for row in made[1].tables[table] if wanted.items() <= row.items()]


def test_every_table_has_rows_and_the_files_hold_them(made):
    options, found = made
    assert list(found.tables) == list(TABLES) and all(found.tables.values())
    written = json.loads((options["out"] / "study.json").read_text())
    assert {name: written[name] for name in TABLES} == json.loads(json.dumps(found.tables))
    assert written["checks"] == found.checks and written["about"]["command"] == "lowlat study"
    page = (options["out"] / "README.md").read_text()
    pictures = sorted(path.name for path in options["out"].glob("*.png"))
    assert len(pictures) == 6 and all(f"]({name})" in page for name in pictures)


def test_methods_that_learn_have_a_row_over_all_seeds(made):
    table = {row["method"]: row for row in rows(made, "table2")}
    assert {"per frame", "reuse", "flow", "exact-flow", "unified", "adaptive-fusion"} <= set(table)
    assert table["reuse"]["seeds"] == 1 and table["reuse"]["spread"] is None
    assert table["adaptive-fusion"]["seeds"] == 2 and table["adaptive-fusion"]["spread"] is not None
    assert set(table["reuse"]["at"]) == {"1", "3"}
    for row in table.values():
        assert row["drop"] == pytest.approx(table["per frame"]["miou"] - row["miou"], abs=0.011)
        if "at" in row:
            assert row["min_over_distances"] == min(row["at"].values())


def test_every_schedule_is_there_with_its_accuracy_its_time_and_the_published_one(made):
    for schedule in ("fixed, every 5 frames", "adaptive", "adaptive, low-latency"):
        assert [row["network"] for row in rows(made, "table1", schedule=schedule)] == ["given", "trained"]
    (late,) = rows(made, "table1", schedule="adaptive, low-latency", network="trained")
    assert late["seeds"] == 2 and late["published_max_ms"] == 119 and 0 < late["average_ms"] <= late["max_ms"]
    (whole,) = rows(made, "table1", schedule="per frame")
    assert whole["miou"] == rows(made, "table4", split="val")[0]["miou"] and whole["drop"] == 0


def test_propagation_is_the_sum_of_its_parts(made):
    table = {row["module"]: row["ms"] for row in rows(made, "table3")}
    parts = [ms for name, ms in table.items() if name.startswith("propagation: ")]
    assert len(parts) == 6 and table["propagation"] == pytest.approx(sum(parts), abs=0.01)


def test_the_truth_keeps_its_labels_along_exact_motion(made):
    for row in rows(made, "consistency", schedule="truth"):
        assert row["consistency"] > 99


def test_a_second_run_measures_nothing(made):
    options, found = made
    before = (options["out"] / "parts.jsonl").read_bytes()
    again = study(["table2"], **options)
    assert again.tables == found.tables and again.checks == found.checks
    assert (options["out"] / "parts.jsonl").read_bytes() == before


def lines(path):
    """Return a page's lines, without those that say how it was made."""
    return [line for line in path.read_text().splitlines() if not re.search("command|seconds of this run", line)]


def test_what_is_committed_of_a_study_is_enough_to_write_it_again(made, tmp_path, monkeypatch):
    options, found = made
    for path in options["out"].iterdir():
        if path.name == "parts.jsonl" or path.name.startswith("pictures-"):
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(Parts, "_append", lambda parts, part: pytest.fail(f"measured again: {part['kind']}"))
    study(**{**options, "out": tmp_path})
    assert {path.name for path in options["out"].iterdir()} - {path.name for path in tmp_path.iterdir()} == {
        ".training"
    }
    for name in ("README.md", "study.json"):
        first, again = (lines(folder / name) for folder in (options["out"], tmp_path))
        assert again == first


def test_a_picture_that_is_not_the_one_measured_is_drawn_again(made, tmp_path):
    options, found = made
    copy = shutil.copytree(options["out"], tmp_path / "copy")
    picture = copy / "pictures-street.png"
    drawn = picture.read_bytes()
    picture.write_bytes(b"another")
    assert study(["figure6"], **{**options, "out": copy}).tables["figure6"] == found.tables["figure6"]
    assert picture.read_bytes() == drawn


def test_a_run_that_was_stopped_goes_on(made, tmp_path, monkeypatch):
    options = {**made[0], "out": tmp_path}
    rows_of, seen = Parts.rows, []

    def stop(parts, unit):
        seen.append(unit)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return rows_of(parts, unit)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "rows", stop)
        with pytest.raises(KeyboardInterrupt):
            study(["table2"], **options)
    done = (tmp_path / "parts.jsonl").read_text()
    assert len(done.splitlines()) == 3 and not (tmp_path / "study.json").exists()
    again = study(["table2"], **options)
    assert (tmp_path / "parts.jsonl").read_text().startswith(done)
    # Trained anew from the same seeds: the same numbers.
    assert again.tables["table2"] == made[1].tables["table2"]
    # Only what is whole is told of: the units of other tables are missing.
    assert set(again.tables) == {"table2"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tables": ["table9"]}, "table1.*got table9"),
        ({"weights": ["a", "b"]}, "at most one --weights"),
        ({"weights": ["nothing"]}, "shipped network.*'nothing'"),
        ({"data": ["nowhere:1"]}, "'nowhere:1'"),
        ({"data": [STREET, "street:64x48"]}, "different kinds, got street, street; make a study of each"),
    ],
)
def test_what_is_not_there_is_said_at_once(made, tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        study(**{**made[0], "out": tmp_path, **change})


@pytest.mark.thorough
def test_without_seeds_nothing_is_trained(made, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("lowlat.lab.study.grounds.Training", lambda *_: pytest.fail("something is to be trained"))
    options = {**made[0], "out": tmp_path, "settings": replace(SMALL, seeds=0)}
    found = study(**options)
    assert set(TABLES) - set(found.tables) == {"table2", "sources"}
    assert {row["network"] for row in found.tables["figure5"]} == {"given"}
    with pytest.raises(ValueError, match="seeds of at least 1 for sources, got 0"):
        study(["figure3", "sources"], **options)
    with pytest.raises(ValueError, match="at least 1 for street's weights, got 0"):
        study(["figure3"], **{**options, "weights": []})


def test_a_study_of_less_than_no_seeds_is_refused():
    with pytest.raises(ValueError, match="seeds of at least 0, got -1"):
        replace(room.QUICK, seeds=-1)


@pytest.mark.sample(3)
@pytest.mark.parametrize("table", [name for name in TABLES if name not in ("table1", "table3", "figure1", "streaming")])
def test_each_table_can_be_the_first_to_need_training(tiny_weights, tmp_path, table):
    """Those left out need a live run, and train as table1's schedules do."""
    settings = replace(SMALL, seeds=1, frames=8, intervals=(2,), distances=(1,))
    bare = tmp_path / "bare.safetensors"
    network = models.load(tiny_weights)
    network.untrained = BETWEEN_KEY_FRAMES
    save(network, bare, stage="finetune")
    found = study([table], data=[STREET], weights=[str(bare)], out=tmp_path / "study", settings=settings)
    assert found.tables[table]
