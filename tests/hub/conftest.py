"""Tests of a hub run where those of the runtime do: the CPU, a fake GPU in two ways, a GPU where there is one."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "runtime"))

from hub_places import hub_at
from places import PLACES


@pytest.fixture(params=PLACES)
def device(request):
    with hub_at(request.param) as name:
        yield name
