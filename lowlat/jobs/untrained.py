"""The rule for runs with weights of which not every module has been trained: a converted checkpoint, start weights."""

from __future__ import annotations

from lowlat.networks.video_network import VideoNetwork

PER_FRAME = {"head", "refine", "classifier"}


def check_trained(job: str, network: VideoNetwork, *, fast_track: bool = True, without: str = "") -> str:
    """Return a line that tells the user that the fast track is untrained; empty if it is trained, or not wanted.

    Args:
        without: the job's options, if any, that have no need of the fast track.

    Raises:
        ValueError: a module that gives every frame its labels is untrained.
    """
    missing = PER_FRAME.intersection(network.untrained)
    if missing:
        raise ValueError(
            f"{job}: expected weights that were trained, got start weights, whose {', '.join(sorted(missing))} is "
            "untrained; train it with lowlat train base --init"
        )
    if not fast_track or not network.untrained:
        return ""
    return (
        f"expected a trained fast track for {job}, got weights whose {', '.join(network.untrained)} is untrained; "
        "labels between key frames will be poor until lowlat train distill"
        f"{f'; {without} has no need of it' if without else ''}"
    )
