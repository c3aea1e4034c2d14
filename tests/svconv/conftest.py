"""Fixtures for the tests of the operator: all of them run on NaN-filled memory."""

import pytest
from svconv_cases import DEVICES

from svconv import _C

# Without a GPU nothing in it can run; pytest's header says so (tests/conftest.py).
collect_ignore = [] if "cuda" in DEVICES else ["test_svconv_cuda.py"]


@pytest.fixture(autouse=True)
def _nan_filled_memory(nan_filled_memory):
    yield


@pytest.fixture(params=DEVICES)
def device(request):
    """Each device that has kernels here: a test that takes it holds for all of them."""
    return request.param


@pytest.fixture(params=[name for name, supported in _C.instruction_sets().items() if supported])
def instruction_set(request):
    """Each instruction set that this machine has, forced."""
    _C.force_instruction_set(request.param)
    yield request.param
    _C.force_instruction_set(None)
