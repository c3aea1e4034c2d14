"""Scores at the feature map's size -> label map at the frame's size. For training, stages and evaluation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def full_size_labels(scores: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """``(N, classes, h, w)`` -> uint8 ``(N, *size)``: bilinear, then the class of the highest score."""
    # Channels-last makes both steps walk memory in order, and max gives its indices several times faster than argmax.
    scores = scores.contiguous(memory_format=torch.channels_last)
    scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
    return scores.max(1).indices.to(torch.uint8)
