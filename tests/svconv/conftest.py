"""Fixtures for the tests of the operator: all of them run on NaN-filled memory."""

import pytest

from svconv import _C


@pytest.fixture(autouse=True)
def _nan_filled_memory(nan_filled_memory):
    yield


@pytest.fixture(params=[name for name, supported in _C.instruction_sets().items() if supported])
def instruction_set(request):
    """Each instruction set that this machine has, forced."""
    _C.force_instruction_set(request.param)
    yield request.param
    _C.force_instruction_set(None)
