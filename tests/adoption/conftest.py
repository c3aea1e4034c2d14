"""Networks of other libraries, and where they run."""

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / "runtime"), str(Path(__file__).parents[1])]

import zoo


@pytest.fixture(params=[pytest.param(n, marks=() if n in zoo.QUICK else pytest.mark.thorough) for n in zoo.ZOO])
def adopted(request):
    """A network of another library, adopted as its entry in `zoo.ZOO` says, with the model that it was made from."""
    return zoo.adopted(request.param)
