"""Programs of the simulator, built once a session."""

import sys
from pathlib import Path

import pytest
import simulated

# The operator's cases and tolerances.
sys.path.append(str(Path(__file__).parents[1] / "svconv"))


@pytest.fixture(scope="session", params=simulated.SANITIZERS)
def sanitizer(request):
    return request.param


@pytest.fixture(scope="session")
def primitives(sanitizer):
    """Functions of primitives.cu, under each sanitizer."""
    program = simulated.Program(simulated.build([simulated.HERE / "primitives.cu"], sanitizer))
    yield program
    program.close()
