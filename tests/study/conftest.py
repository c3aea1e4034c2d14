"""A network of a few channels to study."""

import copy

import pytest

from lowlat import models
from lowlat.lab.weights import save


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory, tiny_network):
    """A file of weights of the tiny network, fast track and selector included, known to `models` for the while."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "tiny", lambda **_: copy.deepcopy(tiny_network))
        save(models.build("tiny"), path, stage="selector")
        yield path
