"""Scores against figures worked out by hand."""

import pytest
import torch

from lowlat.lab.metrics import Confusion, Scores


def test_scores_of_a_small_case():
    confusion = Confusion(3)
    confusion.add(torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 1, 1, 11]]))
    confusion.add(torch.tensor([[1]]), torch.tensor([[1]]))
    # Class 0: 1 hit, 2 predicted, 1 true; class 1: 2 hits, 2 predicted, 3 true; class 2 never occurs (void ignored).
    assert confusion.class_iou[:2].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert confusion.class_iou[2].isnan()
    assert confusion.miou == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert confusion.pixel_accuracy == pytest.approx(75)
    assert confusion.class_accuracy == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_maps_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        Confusion(3).add(torch.zeros(2, 2), torch.zeros(2, 3))


def test_labels_that_are_void_everywhere_have_no_figures():
    confusion = Confusion(3)
    confusion.add(torch.zeros(2, 2, dtype=torch.uint8), torch.full((2, 2), 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="Scores: expected labels of 3 classes, 0 to 2, got void in every pixel"):
        Scores.of(confusion, "abc")
