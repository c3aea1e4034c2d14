"""Which configuration runs: candidates, what is measured and where it is kept. No Triton, no GPU."""

import json
import os
import pwd
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from svconv.triton import configs
from svconv.triton.configs import Cache, Config, ProblemClass

PROBLEM = ProblemClass("sum", "band", "bfloat16", 9, True, 8, 15)
OTHER = ProblemClass("gradient", "band", "bfloat16", 9, True, 8, 15)
CONFIG = Config(8, 8, 64, 8, 3)


def test_what_one_process_measured_another_reads(tmp_path):
    Cache(tmp_path / "new" / "gpu.json").put(PROBLEM, CONFIG)
    assert Cache(tmp_path / "new" / "gpu.json").get(PROBLEM) == CONFIG
    assert Cache(tmp_path / "new" / "gpu.json").get(OTHER) is None


def test_processes_that_measure_at_the_same_time_keep_what_the_others_found(tmp_path):
    first, second = Cache(tmp_path / "gpu.json"), Cache(tmp_path / "gpu.json")
    first.put(PROBLEM, CONFIG)
    second.put(OTHER, CONFIG)
    assert set(json.loads((tmp_path / "gpu.json").read_text())) == {str(PROBLEM), str(OTHER)}


def test_readers_never_see_a_part_of_a_file(tmp_path):
    file = tmp_path / "gpu.json"
    program = (
        "import sys, pathlib; from svconv.triton.configs import *\n"
        "for size in range(50):\n"
        "    Cache(pathlib.Path(sys.argv[1])).put(ProblemClass('sum', sys.argv[2], '', 9, True, size, 0), "
        "Config(8, 8, 64, 8))"
    )
    Cache(file).put(PROBLEM, CONFIG)
    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(subprocess.run, [sys.executable, "-c", program, file, name]) for name in ("a", "b")]
        while not all(writer.done() for writer in writers):
            json.loads(file.read_text())
    assert all(writer.result().returncode == 0 for writer in writers)
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": {"rows": 1}}', "\x00"])
def test_a_file_that_is_not_ours_is_measured_anew(text, tmp_path):
    (tmp_path / "gpu.json").write_text(text)
    cache = Cache(tmp_path / "gpu.json")
    assert cache.get(PROBLEM) is None
    cache.put(PROBLEM, CONFIG)
    assert Cache(tmp_path / "gpu.json").get(PROBLEM) == CONFIG


def test_without_a_place_to_write_it_is_kept_in_memory(tmp_path):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "gpu.json")
    cache.put(PROBLEM, CONFIG)
    assert cache.get(PROBLEM) == CONFIG


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(configs.os, "replace", full)
    cache = Cache(tmp_path / "gpu.json")
    cache.put(PROBLEM, CONFIG)
    assert cache.get(PROBLEM) == CONFIG and list(tmp_path.iterdir()) == []


def forget_the_user(monkeypatch):
    """No HOME, and no entry in the table of users, as in many containers."""

    def unknown(user):
        raise KeyError(user)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


UNUSABLE = {
    "unknown user": forget_the_user,
    "a home that is no folder": lambda monkeypatch: monkeypatch.setenv("HOME", os.devnull),
    "a relative home": lambda monkeypatch: monkeypatch.setenv("HOME", "here"),
    "a home that can't be made": lambda monkeypatch: monkeypatch.setenv("HOME", "/proc/absent"),
}


@pytest.mark.parametrize("home", UNUSABLE)
def test_without_a_usable_home_it_is_kept_in_memory(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    UNUSABLE[home](monkeypatch)
    cache = configs.cache_of(home, "3.9.0")
    cache.put(PROBLEM, CONFIG)
    assert configs.cache_of(home, "3.9.0").get(PROBLEM) == CONFIG
    assert cache.file is None and list(tmp_path.iterdir()) == []


def test_a_relative_folder_of_caches_is_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert configs.folder() == tmp_path / ".cache" / "svconv" / "triton"


COMPILE = """
import os, svconv.triton.ops, triton
from svconv.triton.compile import TARGETS, compile, specialisations
jacobian = next(each for each in specialisations("sm_90") if each.kernel == "taps_jacobian")
assert compile(jacobian, TARGETS["sm_90"]).asm["ptx"]
print(triton.knobs.cache.dir)
"""


@pytest.mark.sample(3)
@pytest.mark.parametrize("home", [os.devnull, "here", None])
def test_triton_compiles_without_a_usable_home(home, tmp_path):
    unset = ("HOME", "TRITON_HOME", "TRITON_CACHE_DIR", "TRITON_INTERPRET")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    program = COMPILE
    if home is None:
        program = "import pwd\npwd.getpwuid = {}.__getitem__\n" + COMPILE
    else:
        environment["HOME"] = home
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.is_absolute() and not folder.exists() and list(tmp_path.iterdir()) == []


def test_gpu_version_and_source_name_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = {configs.cache_of(*key).file for key in (("A 1/2", "3.6.0"), ("A 1/2", "3.9.0"), ("B", "3.6.0"))}
    assert len(files) == 3 and all(file.parent == tmp_path / "svconv" / "triton" for file in files)
    assert all(configs.source_hash() in file.name for file in files)


def test_the_fastest_that_runs_is_chosen():
    seconds = {Config(8, 8, 32, 8): 2.0, Config(8, 8, 64, 8): 1.0}

    def seconds_of(config):
        if config not in seconds:
            raise RuntimeError("out of resources")
        return seconds[config]

    assert configs.fastest((*seconds, Config(8, 8, 128, 8)), seconds_of) == Config(8, 8, 64, 8)
    with pytest.raises(RuntimeError, match="out of resources"):
        configs.fastest((Config(1, 1, 1, 1),), seconds_of)


@pytest.mark.parametrize("kernel_size", range(1, 16, 2))
@pytest.mark.parametrize("product", ["sum", "gradient"])
def test_a_window_holds_all_that_its_tile_reads(product, kernel_size):
    for config in configs.candidates(product, "band", kernel_size, 2):
        assert config.columns // 2 >= kernel_size // 2
        rows = configs.window_rows(kernel_size, config.rows)
        assert config.rows + kernel_size - 1 <= rows < 2 * (config.rows + kernel_size - 1)
