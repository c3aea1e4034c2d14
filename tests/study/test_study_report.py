"""The page and the JSON say what the rows say."""

from statistics import stdev

import pytest

from lowlat.lab.study.figures import draw_figures
from lowlat.lab.study.published import PUBLISHED_SCHEDULES, SYSTEMS
from lowlat.lab.study.report import markdown, table
from lowlat.lab.study.rows import averaged, grouped, spread

TABLE2 = [
    {"data": "street", "method": "per frame", "miou": 64.0, "spread": None, "drop": 0.0},
    {"data": "street", "method": "reuse", "miou": 51.25, "spread": None, "drop": 12.75, "at": {"1": 60.0, "5": 48.0}},
    {"data": "street", "method": "adaptive", "miou": 58.5, "spread": 0.4, "drop": 5.5, "at": {"1": 63.0, "5": 56.0}},
]


def test_rows_become_a_markdown_table_with_a_column_for_each_distance():
    lines = table(TABLE2)
    assert lines[0] == "| data | method | miou | spread | drop | at 1 | at 5 |"
    assert lines[1] == "| --- | --- | --: | --: | --: | --: | --: |"
    assert lines[3] == "| street | reuse | 51.25 |  | 12.75 | 60 | 48 |"


def test_series_and_file_names_stay_out_of_the_tables():
    assert table([{"data": "street", "pearson": 0.8, "series": [1], "picture": "a.png"}])[0] == "| data | pearson |"


def test_the_page_marks_what_does_not_hold():
    found = [
        {"data": "street", "claim": "one", "bar": ">= 3", "value": 3.5, "held": True},
        {"data": "street", "claim": "other", "bar": "<= 4", "value": 4.25, "held": False},
    ]
    page = markdown({"table2": TABLE2}, found, {"command": "lowlat study", "seconds": {"table2": 3.5}}, {})
    assert "| street | one | >= 3 | 3.5 | yes |" in page and "| street | other | <= 4 | 4.25 | **no** |" in page
    assert "- command: lowlat study\n- seconds: table2 3.5" in page


def test_figures_are_drawn_for_each_ground_and_shown_on_the_page(tmp_path):
    camvid = [{**row, "data": "camvid"} for row in TABLE2]
    tables = {
        "table2": TABLE2 + camvid,
        "figure5": [
            {"data": "street", "network": "given", "policy": policy, "mean_interval": x, "miou": 60 - x, "spread": s}
            for policy, s in (("every", None), ("adaptive", 0.5))
            for x in (2, 5)
        ],
    }
    pictures = draw_figures(tables, tmp_path)
    names = ["methods-by-distance-street.png", "methods-by-distance-camvid.png"]
    assert pictures == {"table2": names, "figure5": ["schedules-street.png"]}
    assert all((tmp_path / name).stat().st_size > 5000 for row in pictures.values() for name in row)
    assert "](methods-by-distance-camvid.png)" in markdown(tables, [], {}, pictures)


def test_published_points_are_in_every_grounds_figure_and_make_none_of_their_own(tmp_path):
    ours = {"data": "street", "system": "per frame", "published": False, "miou": 60, "average_ms": 100, "max_ms": 100}
    theirs = {
        "data": "Cityscapes",
        "system": "ICNet",
        "published": True,
        "miou": 69.5,
        "average_ms": 33,
        "max_ms": None,
    }
    assert draw_figures({"figure1": [ours, theirs]}, tmp_path) == {"figure1": ["accuracy-over-time-street.png"]}


def test_mean_and_spread_are_those_of_the_seeds():
    assert spread([60.0, 61.0, 63.5]) == {"miou": 61.5, "spread": round(stdev([60, 61, 63.5]), 2), "seeds": 3}
    assert spread([60.0]) == {"miou": 60.0, "spread": None, "seeds": 1}


def test_rows_are_grouped_in_order_and_averaged_where_all_have_a_number():
    rows = [{"m": "b", "x": 1, "y": None}, {"m": "a", "x": 5, "y": 2}, {"m": "b", "x": 2, "y": 3}]
    assert [key["m"] for key, _ in grouped(rows, "m")] == ["b", "a"]
    assert averaged(grouped(rows, "m")[0][1], "x", "y") == {"x": 1.5}


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_published_point_names_its_publication(system):
    assert system.publication and system.hardware and 0 < system.miou < 100 and system.average_ms > 0


def test_the_published_low_latency_average_leaves_s_h_out():
    assert PUBLISHED_SCHEDULES["adaptive, low-latency"] == (61 + 20 + 38, 61 + 20 + 38)
