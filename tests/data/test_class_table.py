"""classes.csv: names and colours of a folder's classes, and what is said where rows are wrong or there are none."""

import numpy as np
import pytest
from PIL import Image

from lowlat.classes import CAMVID
from lowlat.lab.data.class_table import read_classes
from lowlat.lab.data.open import open_dataset


def table(tmp_path, text):
    path = tmp_path / "classes.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["", "index,name,r,g,b\n", "Index, Name, R, G, B\n\n", "\ufeffindex,name,r,g,b\n"])
def test_rows_in_any_order_name_and_colour_the_classes(tmp_path, head):
    found = read_classes(table(tmp_path, head + '1, "grass, tall",0,200,0\n\n0,Straße,128,64,128\n2,0,1,2,3\n'))
    assert found.names == ("Straße", "grass, tall", "0")
    assert found.palette == ((128, 64, 128), (0, 200, 0), (1, 2, 3))


@pytest.mark.parametrize(
    "rows, words",
    [
        ("", "1 to 255 classes with the indices 0, 1, 2, ... in .*classes.csv, got none"),
        ("index,name,r,g,b\n", "got none; number them from 0"),
        ("0,a,1,2,3\n2,b,1,2,3\n", "got 0, 2; number them from 0 without a gap, and leave void out"),
        ("0,a,1,2,3\n0,b,1,2,3\n", "every index and name once in .*, got 0 'b' again in line 2"),
        ("0,a,1,2,3\n1,a,1,2,3\n", "every index and name once in .*, got 1 'a' again in line 2"),
        ("0,a,1,2\n", "rows index,name,r,g,b in .*, got '0,a,1,2' in line 1"),
        ("0,a,1,2,3,4\n", "rows index,name,r,g,b in .*, got '0,a,1,2,3,4' in line 1"),
        ("0,,1,2,3\n", "rows index,name,r,g,b in .*, got '0,,1,2,3' in line 1"),
        ("\n0,a,1,2,256\n", "colour of three numbers, all 0 to 255, in .*, got '0,a,1,2,256' in line 2"),
        ("zero,a,1,2,3\n", "an index and a colour .*, got 'zero,a,1,2,3' in line 1"),
        ("-1,a,1,2,3\n", "an index and a colour .*, got '-1,a,1,2,3' in line 1"),
        ("0,a,1,2,0x3\n", "an index and a colour .*, got '0,a,1,2,0x3' in line 1"),
    ],
)
def test_rows_that_are_none_are_named(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        read_classes(table(tmp_path, rows))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_bytes(b"0,\xff\xfe,1,2,3")
    with pytest.raises(ValueError, match="expected a text file of classes at .*classes.csv"):
        read_classes(path)
    with pytest.raises(ValueError, match="expected a text file of classes at .*nothing.csv"):
        read_classes(tmp_path / "nothing.csv")


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 5, 3)[: 3 if name == "images" else 2], np.uint8)).save(tmp_path / name / "0.png")
    return tmp_path


def test_a_folder_takes_its_classes_from_the_table_before_other_files(folder, capsys):
    (folder / "classes.txt").write_text("one\ntwo\n")
    assert open_dataset(folder, "train").classes == ("one", "two")
    table(folder, "0,road,1,2,3\n")
    data = open_dataset(folder, "train")
    assert data.classes == ("road",) and data.palette == ((1, 2, 3),)
    assert capsys.readouterr().err == ""
    table(folder, "0,road,1,2\n")
    with pytest.raises(ValueError, match="rows index,name,r,g,b"):
        open_dataset(folder, "train")


def test_a_folder_that_does_not_say_is_read_with_camvids_and_says_so_once(folder, capsys):
    for _ in range(2):
        assert open_dataset(folder, "train").classes == CAMVID.names
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"lowlat: no classes.csv in {folder}: ")
    assert "11 classes of CamVid (sky, building, ...)" in said and "index,name,r,g,b" in said
