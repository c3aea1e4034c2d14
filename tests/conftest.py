"""Fixtures for all tests, and which of them run where.

One thread a process, so that two processes keep two cores busy: threads that share a dozen pixels wait for each other
most of the time. Tests of threads set a number of their own and give it back.

    @pytest.mark.serial      alone on the machine, because its times count
    @pytest.mark.thorough    in `make check`, not in `make test`
    @pytest.mark.sample(n)   every nth case of the test in `make test`, all of them in `make check`; where n has no
                             divisor in common with the number of types and layouts, all of these come up
"""

import os
import signal
import threading
from collections import Counter

# PyTorch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's job in the background ignores Ctrl-C, and so would the programs that tests start and interrupt.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_networks import tiny

import svconv
from lowlat.lab.data.camvid import VOID


def pytest_addoption(parser):
    parser.addoption("--backend", help="tests/svconv: of this backend in place of the compiled kernels: triton")
    parser.addoption("--torch-wheels", help="tests/runtime: a folder with wheels of other versions of torch")
    parser.addoption("--part", help="of two processes that share the tests, which one this is: 0 or 1")


def pytest_report_header():
    obstacle = next((row.cuda for row in svconv.backends() if row.name == "cuda"), "tests of another backend")
    return "the operator on CUDA: " + ("tested" if obstacle is None else f"NOT TESTED, {obstacle}")


@pytest.hookimpl(specname="pytest_collection_modifyitems", tryfirst=True)
def pytest_mark_what_samples_leave_out(items):
    seen = Counter()
    for item in items:
        sample = item.get_closest_marker("sample")
        if sample is None:
            continue
        test = item.path, item.originalname
        if seen[test] % sample.args[0]:
            item.add_marker("thorough")
        seen[test] += 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    part = config.getoption("--part")
    if part is not None:
        # By pairs: neighbours, of one case in two layouts, share the reference's answer.
        items[:] = [item for index, item in enumerate(items) if index // 2 % 2 == int(part)]


@pytest.fixture(autouse=True)
def threads_are_given_back():
    """A test that changes the number of torch's threads restores it."""
    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, f"expected the test to leave {before} threads as it found them, got {after}"


@pytest.fixture
def nan_filled_memory():
    """Fills every torch.empty, in Python and in C++, with NaN, so that an output that isn't written can't pass."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.fixture(scope="session")
def tiny_network():
    """A `VideoNetwork` with random weights, and batch norms that change their input."""
    return tiny()


@pytest.fixture
def tiny_matching_network():
    """The same with the classifier and the fast track of `lite`: both read F_l, kernels are predicted by matching, and
    the correction is not zero."""
    network = tiny(match=True, correct=True, refine=True)
    torch.nn.init.normal_(network.fusion.to_high.weight, std=0.5)
    return network


@pytest.fixture
def one_thread():
    """Runs small work on one thread, since two that wait for each other take long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def camvid(tmp_path_factory):
    """A folder in CamVid's layout: coloured blocks, labelled by colour."""
    root = tmp_path_factory.mktemp("camvid")
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 12), ("test", 2)):
        lines = []
        for index in range(count):
            blocks = random.integers(0, VOID + 1, (6, 8))
            label = np.kron(blocks, np.ones((60, 60), int)).astype(np.uint8)
            image = np.stack([label * 20, 255 - label * 20, label * 7 % 255], -1).astype(np.uint8)
            Image.fromarray(image).save(root / f"{split}{index}.jpg")
            Image.fromarray(label).save(root / f"{split}{index}.png")
            lines.append(f"{split}{index}.jpg {split}{index}.png")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def lowlat():
    """Runs the command line; returns exit code, stdout and stderr."""
    # The operator's tests run where the commands' packages are not installed too.
    from typer.testing import CliRunner

    from lowlat.cli import app

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        return result.exit_code, result.stdout, result.stderr

    return run
