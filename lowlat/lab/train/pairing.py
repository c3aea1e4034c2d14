"""What the pairs of a stage are made of, as its recipe names it.

simulated    labelled images, and simulated motion
clips        unlabelled videos, under the per-frame network's labels
video        labelled videos of the data: the second frame has labels
unlabelled   videos of the data, labelled or not, and unlabelled ones: for the selector, whose targets are the
             per-frame network's
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowlat.lab.data.dataset import LabelledImages, labelled_indices
from lowlat.lab.data.pairs import ClipPairs, Crops, Features, PairKind, VideoPairs, followers, read_clip
from lowlat.lab.data.simulated import SimulatedPairs
from lowlat.lab.notices import notice
from lowlat.lab.train.per_frame import view_size
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.stages import working_size


def crops_of(network: VideoNetwork, data: LabelledImages, crop: int | None) -> Crops:
    """Return the crops that a stage on pairs is trained on: at the scale of the network's working size, as large as
    that of the set's first labelled image, or as ``crop`` says."""
    shape = tuple(data.image(labelled_indices(data)[0]).shape[-2:])
    size = view_size(network, shape, crop)
    return Crops(size, lambda height, width: working_size(height, width, network.pixels, network.multiple))


def kinds_of(
    wanted: Sequence[str],
    data: LabelledImages,
    clips: Sequence[str | Path],
    features: Features,
    crops: Crops,
) -> dict[str, PairKind]:
    """Return the kinds of pairs that are wanted and there; simulated ones in place of videos that the data has not."""

    def simulated() -> SimulatedPairs:
        return SimulatedPairs(data, labelled_indices(data), features, crops)

    def of_clips() -> ClipPairs:
        return ClipPairs([scene for clip in clips for scene in read_clip(clip, crops)], features)

    found: dict[str, PairKind] = {}
    for name in wanted:
        if name == "simulated":
            found[name] = simulated()
        elif name == "clips":
            if clips:
                found[name] = of_clips()
        elif followers(data, labelled=name == "video"):
            found["video"] = VideoPairs(data, features, crops, labelled=name == "video")
        elif name == "unlabelled" and clips:
            found["clips"] = of_clips()
        else:
            notice("train: the data has no such videos; pairs are made by simulated motion on its labelled images")
            found["simulated"] = simulated()
    return found
