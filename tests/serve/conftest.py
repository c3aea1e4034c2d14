"""A clip to serve."""

import pytest
from timed_clips import write_clip


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """20 frames of 64x48 in 0.8 s."""
    return write_clip(tmp_path_factory.mktemp("serve") / "clip.mp4")
