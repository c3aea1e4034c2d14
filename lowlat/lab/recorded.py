"""A labelled video whose features are computed once, and the engine's stages over it. For the accuracy protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from lowlat.jobs.progress import track
from lowlat.jobs.steadiness import Steadiness, SteadinessFigures
from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.methods import Method, View
from lowlat.lab.metrics import Confusion
from lowlat.networks.labels import full_size_labels, scores_on_host
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime import KeyFrame
from lowlat.runtime.stages import High, Low, NetworkStages
from lowlat.runtime.words import counted
from lowlat.schedule import Signal


class LabelledVideo(NetworkStages):
    """The stages of a network over a labelled video: a frame is its index, F_l and F_h are looked up.

    F_l, F_h and the per-frame labels of all frames are computed when it is made. F_l and F_h stay on ``device``,
    images and labels on the host.

    Args:
        data: a set with a video in it.
        frames: the video's items, as in ``data.videos``; by default all of the set.
        device: where the network runs.

    Raises:
        ValueError: frames of several sizes.

    Attributes:
        images: the frames, uint8 RGB ``(3, H, W)`` each.
        truth: the true labels of each frame, uint8 ``(H, W)``, or None for a frame without labels.
        per_frame: the labels by the network frame by frame, uint8 ``(H, W)`` each.
        lows, highs: F_l and F_h of each frame.
        scenes: the frames from cut to cut, as ranges of indices into these lists.
        classes: the names of the classes.
        first: the item of ``data`` that frame 0 is.
    """

    def __init__(
        self,
        network: VideoNetwork,
        data: LabelledImages,
        frames: range | None = None,
        *,
        device: str | torch.device = "cpu",
    ):
        super().__init__(network, device=device)
        frames = range(len(data)) if frames is None else frames
        self.classes, self.first = data.classes, frames.start
        self.images = [data.image(index) for index in frames]
        if len(sizes := {tuple(image.shape[:0:-1]) for image in self.images}) > 1:
            raise ValueError(
                f"LabelledVideo: expected frames of one size, as a video has them, in the list {data.split!r}, got "
                f"{' and '.join(f'{width}x{height}' for width, height in sorted(sizes)[:3])}; scale them to one size, "
                "or score them as images alone"
            )
        self.truth = [data.label(index) for index in frames]
        self.scenes = list(_within(data.videos, frames))
        self.lows, self.highs, self.per_frame = [], [], []
        for image in track(self.images, "frame by frame"):
            self.lows.append(super().lower(image.permute(1, 2, 0).numpy()))
            self.highs.append(super().higher(self.lows[-1]))
            self.per_frame.append(super().classify(self.highs[-1]))
        self._index = {id(low): index for index, low in enumerate(self.lows)}

    def __len__(self) -> int:
        return len(self.lows)

    def lower(self, frame: int) -> Low:
        return self.lows[frame]

    def higher(self, low: Low) -> High:
        return self.highs[self._index[id(low)]]

    def view(self, low: Low) -> View:
        """What a method may see of the frame that ``low`` belongs to, on the video's device."""
        index = self._index[id(low)]
        return View(self.images[index][None].to(self.device), low.features, self.first + index)

    def steadiness(self, labels: Iterable[tuple[int, np.ndarray]]) -> SteadinessFigures:
        """How steady label maps are beside those frame by frame; given with their frame's index, in order."""
        counted, before = Steadiness(score_grid(self, self.highs[0])), 0
        for index, shown in labels:
            cut = not any(before in scene and index in scene for scene in self.scenes)
            counted.add(shown, self.per_frame[index], cut=cut)
            before = index
        return counted.figures()

    def score(self, labels: Iterable[tuple[int, np.ndarray]]) -> Confusion:
        """Count label maps, given with their frame's index, against the truth; frames without labels are left out."""
        confusion = Confusion(self.network.classes)
        for index, predicted in labels:
            if self.truth[index] is not None:
                confusion.add(torch.from_numpy(predicted), self.truth[index])
        return confusion


@torch.inference_mode()
def score_grid(stages: NetworkStages, high: High) -> tuple[int, int]:
    """The size ``(h, w)`` of the scores that the network gives for a frame with this F_h, where slivers are counted."""
    return tuple(stages.network.classify(high.features).shape[-2:])


def _within(videos: Iterable[range], frames: range) -> Iterable[range]:
    """The parts of ``videos`` that lie in ``frames``, counted from its first one."""
    for video in videos:
        start, stop = max(video.start, frames.start), min(video.stop, frames.stop)
        if start < stop:
            yield range(start - frames.start, stop - frames.start)


class MethodStages:
    """The stages of a labelled video with ``method`` in place of the network's own fast track.

    Key frames and decisions are the network's, whatever carries the features: all methods see the same key frames.

    Args:
        method: it is moved to the video's device.
    """

    def __init__(self, method: Method, video: LabelledVideo):
        self.lower, self.higher, self.measure = video.lower, video.higher, video.measure
        self._method, self._video = method.to(video.device), video
        self._key: KeyFrame | None = None
        self._state = None

    def hold(self, key: KeyFrame) -> None: ...

    def classify(self, high: High, scores: str = "") -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        return self._video.classify(high, scores)

    @torch.inference_mode()
    def propagate(self, key: KeyFrame, low: Low, scores: str = "") -> tuple[Any, High]:
        if self._key is None or key.base is not self._key.base or key.high is not self._key.high:
            self._key, self._state = key, self._method.begin(self._video.view(key.base), key.high.features)
        found, high = self._method.carry(self._state, self._video.view(low))
        labels = full_size_labels(found, low.size)[0].cpu().numpy()
        return (labels, scores_on_host(found[0], low.size, scores)) if scores else labels, High(high, low.size)


class DecisionsOnly:
    """The stages of a labelled video that decide and launch but label nothing: for trying thresholds quickly."""

    def __init__(self, video: LabelledVideo):
        self.lower, self.higher = video.lower, video.higher
        self._measure, self._measured = video.measure, {}

    def measure(self, key: KeyFrame, low: Low, signal: Signal) -> float:
        pair = id(key.low), id(low), signal
        if pair not in self._measured:
            self._measured[pair] = self._measure(key, low, signal)
        return self._measured[pair]

    def hold(self, key: KeyFrame) -> None: ...

    def classify(self, high: High) -> None:
        return None

    def propagate(self, key: KeyFrame, low: Low) -> tuple[None, High]:
        return None, key.high


def check_video(who: str, data: LabelledImages) -> None:
    """``ValueError`` where a list holds no labelled video."""
    labelled = sum(map(data.labelled, range(len(data))))
    if not data.videos or len(data) < 2 or not labelled:
        raise ValueError(
            f"{who}: expected a labelled video of two frames or more in the list {data.split!r}, got "
            f"{counted(len(data), 'image')}, {labelled} of them labelled, {counted(len(data.videos), 'video')}; "
            "use other data"
        )
