"""Programs of the simulator are compiled once, however many processes ask for one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import simulated


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A compiler that writes down its runs in `runs`."""
    monkeypatch.setattr(simulated, "BUILD", tmp_path / "build")
    program = tmp_path / "compiler"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exit\necho run >> {tmp_path / "runs"}\ntouch "$3"\n')
    program.chmod(0o755)
    return str(program)


def test_two_that_ask_at_a_time_get_one_build(compiler, tmp_path):
    both = threading.Barrier(2)

    def ask():
        first = iter([both.wait])

        def inputs():
            next(first, list)()
            return [b"a source"]

        return simulated.once(compiler, ["source"], "program", inputs)

    with ThreadPoolExecutor(2) as pool:
        one, other = [asked.result() for asked in [pool.submit(ask), pool.submit(ask)]]
    assert one == other and one.exists()
    assert (tmp_path / "runs").read_text() == "run\n"


def test_sources_that_change_during_a_build_leave_nothing(compiler):
    contents = iter([b"before", b"after"])
    with pytest.raises(RuntimeError, match="program-.*: its sources changed during the build"):
        simulated.once(compiler, ["source"], "program", lambda: [next(contents)])
    assert not [path for path in simulated.BUILD.iterdir() if path.suffix != ".lock"]
