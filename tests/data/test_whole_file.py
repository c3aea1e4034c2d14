"""The one writer of files: what has its final name is whole."""

import os
import signal
import subprocess
import sys

import pytest

from lowlat.video.files import whole_file

KILLED_HALF_WAY = """
import os, signal, sys
from lowlat.video.files import whole_file

with whole_file(sys.argv[1]) as part, part.open("w") as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=[False, True], ids=["quick", "durable"])
def durable(request):
    return request.param


def test_a_block_that_ends_well_leaves_the_file_alone(tmp_path, durable):
    path = tmp_path / "report.json"
    with whole_file(path, durable=durable) as part:
        part.write_text("first")
        assert not path.exists()
    with whole_file(path, durable=durable) as part:
        part.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_no_file_and_no_part_of_one(tmp_path, durable, error):
    with pytest.raises(error), whole_file(tmp_path / "report.json", durable=durable) as part:
        part.write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_an_exception_leaves_the_file_of_before(tmp_path, durable):
    path = tmp_path / "report.json"
    path.write_text("before")
    with pytest.raises(ValueError), whole_file(path, durable=durable) as part:
        part.write_text("half")
        raise ValueError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_process_killed_half_way_leaves_no_file_of_the_final_name(tmp_path):
    path = tmp_path / "report.json"
    killed = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    (part,) = tmp_path.iterdir()
    assert part.read_text() == "half" and part.name.startswith(".")


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, flushed = tmp_path / "base.pt", []

    def fsync(file):
        flushed.append((os.fstat(file).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with whole_file(path, durable=True) as part:
        part.write_bytes(b"12345")
    assert flushed == [(5, False)]
    with whole_file(path) as part:
        part.write_bytes(b"12345")
    assert len(flushed) == 1
