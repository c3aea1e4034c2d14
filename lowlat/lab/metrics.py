"""Scores from one confusion matrix over a whole set, void ignored (docs: accuracy protocol)."""

from __future__ import annotations

import torch
from torch import Tensor


class Confusion:
    """Counts of (true class, predicted class); add label maps, then read the scores."""

    def __init__(self, classes: int):
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, predicted: Tensor, true: Tensor) -> None:
        """Integer label maps of one shape; true labels outside ``[0, classes)`` are void and ignored."""
        if predicted.shape != true.shape:
            raise ValueError(
                f"Confusion.add: expected label maps of one shape, got {tuple(predicted.shape)} and {tuple(true.shape)}"
            )
        known = true < self.classes
        index = true[known].long() * self.classes + predicted[known].long()
        self.counts += torch.bincount(index, minlength=self.classes**2).view(self.classes, self.classes)

    @property
    def class_iou(self) -> Tensor:
        """Intersection over union, float64 ``(classes,)``; NaN for a class that is neither present nor predicted."""
        hit = self.counts.diag().double()
        return hit / (self.counts.sum(0) + self.counts.sum(1) - hit)

    @property
    def miou(self) -> float:
        """Mean IoU in percent over the classes that occur."""
        return 100 * self.class_iou.nanmean().item()

    @property
    def pixel_accuracy(self) -> float:
        """Percent of known pixels labelled right."""
        return 100 * (self.counts.diag().sum() / self.counts.sum()).item()

    @property
    def class_accuracy(self) -> float:
        """Mean over the classes that occur of the percent of their pixels labelled right."""
        return 100 * (self.counts.diag().double() / self.counts.sum(1)).nanmean().item()
