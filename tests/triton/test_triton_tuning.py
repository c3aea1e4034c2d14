"""When a configuration is measured: once for a class of problems, never in a capture, never in a trace. The GPU is
pretended."""

import contextlib

import pytest
import torch
from torch._subclasses import FakeTensorMode

from svconv.triton import configs, launch
from svconv.triton.configs import Cache

DATA = torch.empty(1, 16, 12, 20, dtype=torch.bfloat16)
CANDIDATES = configs.candidates("sum", "band", 9, 2)


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Pretends one; the last candidate is the fastest. Holds whether a graph is captured and what was measured."""

    class Gpu:
        capturing = False
        file = tmp_path / "gpu.json"

        def fastest(self, candidates, seconds_of):
            self.measured.append(candidates)
            return candidates[-1]

    gpu = Gpu()
    gpu.measured = []
    known = Cache(gpu.file)
    monkeypatch.setattr(launch, "INTERPRETED", False)
    monkeypatch.setattr(configs, "fastest", gpu.fastest)
    monkeypatch.setattr(configs, "cache_of", lambda *key: known)
    for name, value in {
        "is_available": lambda: True,
        "device": lambda device: contextlib.nullcontext(),
        "get_device_name": lambda device: "pretended",
        "is_current_stream_capturing": lambda: gpu.capturing,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return gpu


def launched(data=DATA):
    """Return the configuration that a call launches."""
    launches = []
    launch._launch_best("sum", "band", launches.append, data, 9, 1, 1)
    (config,) = launches
    return config


def test_the_first_call_of_a_class_measures_and_later_ones_do_not(gpu):
    assert [launched() for _ in range(3)] == [CANDIDATES[-1]] * 3
    assert gpu.measured == [CANDIDATES]
    assert list(Cache(gpu.file).known.values()) == [CANDIDATES[-1]]
    launched(torch.empty(1, 64, 12, 20, dtype=torch.bfloat16))
    assert len(gpu.measured) == 2


def test_nothing_is_measured_while_a_graph_is_captured(gpu):
    gpu.capturing = True
    assert launched() == CANDIDATES[0] and not gpu.measured
    gpu.capturing = False
    assert launched() == CANDIDATES[-1]
    gpu.capturing = True
    assert launched() == CANDIDATES[-1] and len(gpu.measured) == 1


def test_nothing_is_measured_while_a_program_is_traced(gpu):
    with FakeTensorMode() as mode:
        assert launched(mode.from_tensor(DATA)) == CANDIDATES[0] and not gpu.measured


def test_an_amd_gpu_starts_with_a_configuration_of_its_own(gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    gpu.capturing = True
    assert launched() == configs.candidates("sum", "band", 9, 2, True)[0] != CANDIDATES[0]
