"""Figures of segmentation, from one confusion matrix over a whole set; void is ignored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor


class Confusion:
    """Counts of (true class, predicted class); add label maps, then read the scores."""

    def __init__(self, classes: int):
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, predicted: Tensor, true: Tensor) -> None:
        """Count the pixels of two integer label maps of one shape; true labels of ``classes`` or more are void.

        Raises:
            ValueError: the maps differ in shape.
        """
        if predicted.shape != true.shape:
            raise ValueError(
                f"Confusion.add: expected label maps of one shape, got {tuple(predicted.shape)} and "
                f"{tuple(true.shape)}; scale the prediction to the labels' size"
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
        """The percentage of known pixels that are labelled right."""
        return 100 * (self.counts.diag().sum() / self.counts.sum()).item()

    @property
    def class_accuracy(self) -> float:
        """The percentage of pixels that are labelled right in each class that occurs, averaged over these classes."""
        return 100 * (self.counts.diag().double() / self.counts.sum(1)).nanmean().item()


@dataclass(frozen=True)
class Scores:
    """Percentages: mean IoU, pixel accuracy, mean class accuracy; IoU by class, None for a class that does not
    occur."""

    miou: float
    pixel_accuracy: float
    class_accuracy: float
    class_iou: dict[str, float | None]

    @staticmethod
    def of(confusion: Confusion, classes: Sequence[str]) -> Scores:
        """Compute the figures of a confusion matrix, rounded to two digits.

        Args:
            classes: the names of the classes.

        Raises:
            ValueError: nothing has been counted.
        """
        if not confusion.counts.any():
            raise ValueError(
                f"Scores: expected labels of {len(classes)} classes, 0 to {len(classes) - 1}, got void in every pixel; "
                "number the classes from 0, as classes.csv names them"
            )
        ious = zip(classes, confusion.class_iou.tolist(), strict=True)
        by_class = {name: None if math.isnan(iou) else round(100 * iou, 2) for name, iou in ious}
        figures = (confusion.miou, confusion.pixel_accuracy, confusion.class_accuracy)
        return Scores(*(round(figure, 2) for figure in figures), by_class)

    def overall(self) -> dict[str, float]:
        """Return the figures over all classes, without those by class."""
        return {name: figure for name, figure in asdict(self).items() if name != "class_iou"}
