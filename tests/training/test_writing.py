"""A full disk: every file that a training leaves says so in one line with its place, and none is left in part."""

import resource

import pytest
import torch

from lowlat import models
from lowlat.lab.methods import OURS, build
from lowlat.lab.methods import weights as of_methods
from lowlat.lab.train.records import Log, save_state
from lowlat.lab.train.shelf import Shelf
from lowlat.lab.weights import save


@pytest.fixture
def full_disk():
    """Within the test no file grows beyond 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_log(path):
    log = Log(path, 0)
    for step in range(200):
        log.write(step, loss=0.5)


WRITERS = {
    "weights": lambda path: save(models.load("lite"), path),
    "a method's weights": lambda path: of_methods.save(build(OURS, models.load("lite")), path),
    "a checkpoint": lambda path: save_state(path, {"modules": torch.zeros(2000)}),
    "pairs": lambda path: Shelf("pairs", lambda numbers, _: [torch.zeros(len(numbers), 500)], 9, seed=0, folder=path),
    "a log": write_log,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_told_with_the_file_and_the_mend(tmp_path, full_disk, what):
    with pytest.raises(
        OSError, match=r"expected to write '.*/it.*', got .+; make room there, or choose another folder"
    ):
        WRITERS[what](tmp_path / "it")
    assert [path.name for path in tmp_path.iterdir()] == (["it"] if what in ("pairs", "a log") else [])
    assert what != "pairs" or [path.name for path in (tmp_path / "it").iterdir()] == ["about.json"]


@pytest.mark.parametrize("what", [name for name in WRITERS if name != "pairs"])
def test_whoever_may_read_other_files_may_read_these(tmp_path, what):
    (tmp_path / "other").touch()
    WRITERS[what](tmp_path / "it")
    assert (tmp_path / "it").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_that_can_not_be_made_is_told_without_talk_of_room(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"save: expected to write '.*/file/it', got File exists; choose another folder"):
        save(models.load("lite"), tmp_path / "file" / "it")
