"""Methods by optical flow: F_h warped bilinearly from where each place was in the key frame.

After Zhu, Xiong, Dai, Yuan, Wei, "Deep Feature Flow for Video Recognition", CVPR 2017, with a flow estimator that needs
no training, or with the exact flow of data that knows it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lowlat.lab.methods.method import Method, View
from lowlat.networks.video_network import VideoNetwork

ExactFlows = Callable[[int], Tensor]
"""A function from an item of a data set to its flow, float32 ``(2, H, W)``, (x, y) in pixels: where each pixel was in
the item before."""


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """Read ``maps`` ``(N, C, h, w)`` bilinearly at x + flow, with the border's value outside.

    Args:
        flow: (x, y) ``(N, 2, h, w)``, in positions of the map.
    """
    n, _, height, width = maps.shape
    theta = torch.eye(2, 3, dtype=maps.dtype, device=maps.device).expand(n, 2, 3)
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    # grid_sample's coordinates run from -1 to 1 across the map.
    scale = (2 / torch.tensor([width, height], dtype=maps.dtype)).to(maps.device)
    return F.grid_sample(maps, grid + flow.to(maps).movedim(1, -1) * scale, padding_mode="border", align_corners=False)


def resize_flow(flow: Tensor, like: Tensor) -> Tensor:
    """Average a flow ``(N, 2, H, W)`` down to the height and width of ``like``, in positions of that map."""
    scale = torch.tensor([after / before for after, before in zip(like.shape[:-3:-1], flow.shape[:-3:-1], strict=True)])
    return F.interpolate(flow, like.shape[-2:], mode="area") * scale.to(flow).view(1, 2, 1, 1)


class FlowMethod(Method):
    """F_h warped by a flow to the key frame, which a subclass finds; the key frames' classifier reads the result."""

    def warped(self, high: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and warped F_h, from F_h and a flow in pixels, ``(N, 2, H, W)``."""
        high = warp(high, resize_flow(flow, high))
        return self.network.classify(high), high


class Flow(FlowMethod):
    """Flow estimated between the current and the key frame by OpenCV's DIS on the grey images.

    Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016; preset medium.

    Raises:
        RuntimeError: OpenCV is not installed.
    """

    name = "flow"

    class State(NamedTuple):
        grey: list[np.ndarray]
        high: Tensor

    def __init__(self, network: VideoNetwork):
        super().__init__(network)
        if importlib.util.find_spec("cv2") is None:
            raise RuntimeError("flow: expected OpenCV, found none; pip install opencv-python-headless")

    def begin(self, key: View, high: Tensor) -> State:
        return self.State(grey_images(key.frame), high)

    def carry(self, state: State, current: View) -> tuple[Tensor, Tensor]:
        import cv2

        estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        pairs = zip(grey_images(current.frame), state.grey, strict=True)
        flow = np.stack([estimator.calc(now, before, None) for now, before in pairs])
        return self.warped(state.high, torch.from_numpy(flow).movedim(-1, 1))


def grey_images(frames: Tensor) -> list[np.ndarray]:
    """Grey images, uint8 ``(H, W)`` each, of RGB frames, uint8 ``(N, 3, H, W)``."""
    import cv2

    return [cv2.cvtColor(frame.permute(1, 2, 0).contiguous().numpy(), cv2.COLOR_RGB2GRAY) for frame in frames.cpu()]


class ExactFlow(FlowMethod):
    """The data's own flow, composed over the frames since the key frame: what warping could do at best.

    Args:
        flows: the data set's ``flow``.

    Raises:
        ValueError: no flow, a view without its index, or more than one frame in it.
    """

    name = "exact-flow"
    needs_flow = True

    class State(NamedTuple):
        index: int
        high: Tensor

    def __init__(self, network: VideoNetwork, flows: ExactFlows | None):
        super().__init__(network)
        if flows is None:
            raise ValueError(
                "exact-flow: expected data that knows its optical flow, got none; use the procedural street's flow"
            )
        self.flows = flows

    def begin(self, key: View, high: Tensor) -> State:
        return self.State(_index(key), high)

    def carry(self, state: State, current: View) -> tuple[Tensor, Tensor]:
        index = _index(current)
        if index <= state.index:
            raise ValueError(
                f"exact-flow: expected a frame after key frame {state.index}, got {index}; begin a key frame there"
            )
        flow = compose([self.flows(i)[None] for i in range(index, state.index, -1)])
        return self.warped(state.high, flow)


def compose(flows: list[Tensor]) -> Tensor:
    """Add up flows, each from a frame to the one before, to the flow from the newest frame to the oldest.

    Args:
        flows: ``(N, 2, H, W)`` each, in pixels, the newest first.
    """
    total = flows[0]
    for flow in flows[1:]:
        total = total + warp(flow, total)
    return total


def _index(view: View) -> int:
    if view.index is None or len(view.frame) != 1:
        raise ValueError(
            f"exact-flow: expected one frame with its index, got {len(view.frame)} and index {view.index}; give both"
        )
    return view.index
