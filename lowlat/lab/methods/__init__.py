"""The methods that carry a key frame's features to the current frame, behind one interface (docs/methods.md)."""

from __future__ import annotations

from lowlat.lab.methods.flow import ExactFlow, ExactFlows, Flow
from lowlat.lab.methods.kernels import Adaptive, AdaptiveFusion, ImageDifference, Unified
from lowlat.lab.methods.method import Method, View
from lowlat.lab.methods.reuse import Clockwork, Reuse
from lowlat.networks.video_network import VideoNetwork

__all__ = ["METHODS", "OURS", "Method", "View", "build"]

METHODS: dict[str, type[Method]] = {
    kind.name: kind for kind in (Reuse, Clockwork, Flow, ExactFlow, Unified, ImageDifference, Adaptive, AdaptiveFusion)
}
OURS = AdaptiveFusion.name
"""The network's own fast track among `METHODS`: the paper's method, and what runs live."""


def build(name: str, network: VideoNetwork, *, flow: ExactFlows | None = None) -> Method:
    """Return a method by name around ``network``, in eval mode.

    ``"adaptive-fusion"`` is the network's own fast track, trained or not as the network is; the other methods have
    parameters of their own (`Method.learned`), untrained until `lowlat.lab.methods.weights.load`.

    Args:
        flow: the data set's exact flow, which only ``"exact-flow"`` reads.

    Raises:
        ValueError: no such method, or exact flow where the data has none.
        RuntimeError: a package that the method needs is missing.
    """
    if name not in METHODS:
        raise ValueError(f"build: expected a method among {', '.join(METHODS)}, got {name!r}")
    kind = METHODS[name]
    method = kind(network, flow) if kind.needs_flow else kind(network)
    return method.eval()
