"""Labels a video with exported ONNX stages, NumPy and onnxruntime alone: S_h runs in the background, frames go on.

    python onnx_live.py EXPORTED frames.npy labels.npy [EVERY [DELAY]]

frames.npy is uint8 RGB (n, H, W, 3) of the size exported, labels.npy becomes uint8 (n, H, W). Every EVERY-th frame, 5
by default, is a key frame. Its S_h is used from the first frame that begins after it is done; with DELAY from the frame
exactly DELAY frames later, so that results do not depend on the machine. Until then features are propagated from the
key frame, or from a later base, along which those of its S_h are carried on.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime


class Stages:
    """The stages as methods: arrays in, arrays out."""

    def __init__(self, folder):
        self.about = json.loads((Path(folder) / "manifest.json").read_text())
        for stage in self.about["stages"]:
            session = onnxruntime.InferenceSession(Path(folder) / stage["files"]["onnx"])
            names = [tensor["name"] for tensor in stage["inputs"]]
            setattr(self, stage["name"], self.method(session, names))

    @staticmethod
    def method(session, names):
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def label(stages, frames, every=5, delay=None):
    """Yields the labels of each frame, uint8 (H, W), as soon as they are known."""
    schedule, worker = stages.about["schedule"], ThreadPoolExecutor(1)
    key = base = steps = 0
    anchor = high = pass_of_higher = None

    def carry(before, anchor, predict, adapt):
        # One worker does one after the other: what it waits for is done.
        return [stages.propagate(anchor, before.result()[0], predict, adapt)[2]]

    for index, frame in enumerate(frames):
        if pass_of_higher and (pass_of_higher.done() if delay is None else index >= key + delay):
            (high,), pass_of_higher = pass_of_higher.result(), None
        *low, predict, adapt, _ = stages.lower(frame[None])
        if index == 0:
            # Only the first frame waits for S_h.
            (high,) = stages.higher(*low)
            labels, carried = stages.classify(high)[0], high
        else:
            labels, _, carried = stages.propagate(anchor, high, predict, adapt)
        yield labels[0]
        is_key = index >= key + every and pass_of_higher is None
        far = index >= base + schedule["rebase"] and (pass_of_higher is None or steps < schedule["steps"])
        if is_key:
            key, steps, pass_of_higher = index, 0, worker.submit(stages.higher, *low)
        elif far and pass_of_higher:
            steps, pass_of_higher = steps + 1, worker.submit(carry, pass_of_higher, anchor, predict, adapt)
        # Later frames are propagated from this one: a key frame, or one far from where its own features came from.
        if index == 0 or is_key or far:
            (anchor,), high, base = stages.anchor(predict), carried, index


def main(folder=None, source=None, output=None, *numbers):
    if output is None or len(numbers) > 2 or not all(map(str.isdecimal, numbers)):
        sys.exit("usage: python onnx_live.py EXPORTED frames.npy labels.npy [EVERY [DELAY]]")
    stages, frames = Stages(folder), np.load(source, mmap_mode="r")
    size = stages.about["frame"]["height"], stages.about["frame"]["width"], 3
    if frames.dtype != np.uint8 or frames.shape[1:] != size or not len(frames):
        sys.exit(
            f"onnx_live: expected frames of uint8 (n, {size[0]}, {size[1]}, 3), as exported, got {frames.dtype} "
            f"{frames.shape}; resize them, or export for their size with lowlat export --size"
        )
    np.save(output, np.stack(list(label(stages, frames, *map(int, numbers)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
