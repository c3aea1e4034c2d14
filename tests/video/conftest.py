"""Clips made on the spot; every frame has one grey level, which tells its index."""

import av
import numpy as np
import pytest

LEVELS = 5  # grey levels from one frame to the next


def frame_of(index, size):
    width, height = size
    frame = np.full((height, width, 3), index * LEVELS % 256, np.uint8)
    # Some texture, so that frames take bytes and a cut file loses some.
    noise = np.random.default_rng(index).integers(0, 64, (height, width // 4, 3), dtype=np.uint8)
    frame[:, : width // 4] += noise
    return frame


@pytest.fixture
def make_clip(tmp_path):
    def make(name="clip.mp4", frames=20, size=(64, 48), codec="h264", options=None):
        path = tmp_path / name
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            for index in range(frames):
                frame = av.VideoFrame.from_ndarray(frame_of(index, size), "rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def levels():
    """Reads from each frame the index that its grey level tells, at its plain right side."""

    def read(frames):
        return [round(float(frame[:, frame.shape[1] * 3 // 4 :].mean()) / LEVELS) for frame in frames]

    return read
