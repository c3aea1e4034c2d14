"""Temporal consistency along known motion, and the correlation of deviations."""

import numpy as np
import pytest
import torch

from lowlat.lab.study.consistency import consistency, motions
from lowlat.lab.study.rows import pearson


class Shifted:
    """Everything moves by (dx, dy) pixels a frame; what comes in at the border was not visible before."""

    def __init__(self, dx, dy, shape):
        self.dx, self.dy, self.shape = dx, dy, shape

    def flow(self, index):
        flow = torch.zeros(2, *self.shape)
        flow[0], flow[1] = -self.dx, -self.dy
        return flow

    def visible(self, index):
        height, width = self.shape
        y, x = np.mgrid[:height, :width]
        return torch.from_numpy((x - self.dx >= 0) & (x - self.dx < width) & (y >= self.dy) & (y - self.dy < height))


@pytest.fixture
def world():
    return np.random.default_rng(0).integers(0, 11, (40, 50)).astype(np.uint8)


def window(world, step):
    # The picture's contents move right by 2 and down by 1 a frame.
    return world[20 - step : 20 - step + 12, 25 - 2 * step : 25 - 2 * step + 17]


def test_labels_that_move_with_the_scene_are_consistent(world):
    labels = [window(world, step) for step in range(6)]
    assert consistency(labels, motions(Shifted(2, 1, (12, 17)), range(len(labels)))) == 100


def test_labels_that_stand_still_are_not(world):
    assert consistency([window(world, 0)] * 6, motions(Shifted(2, 1, (12, 17)), range(6))) < 30


def test_only_visible_pixels_count(world):
    labels = [window(world, step).copy() for step in range(3)]
    labels[1][:, :2] = 12  # these came in at the border
    labels[1][0] = 12
    wrong = consistency(labels, motions(Shifted(2, 1, (12, 17)), range(len(labels))))
    # Right against frame 0; in frame 2 the flaw has moved on: 11 + 15 - 2 places ... of 2 x 11 x 15 disagree.
    moved = np.zeros((12, 17), bool)
    moved[:, :2] = moved[0] = True
    flawed = np.roll(moved, (1, 2), (0, 1))[1:, 2:].sum()
    assert wrong == pytest.approx(100 * (1 - flawed / (2 * 11 * 15)))


def test_the_first_frame_needs_no_motion(world):
    class Cut(Shifted):
        def flow(self, index):
            assert index in (8, 9)
            return super().flow(index)

    motion = motions(Cut(2, 1, (12, 17)), range(7, 10))
    assert consistency([window(world, step) for step in range(3)], motion) == 100


def test_correlation_of_what_never_changes_is_none():
    assert pearson([0.1, 0.2, 0.3], [1, 2, 3]) == pytest.approx(1)
    assert pearson([0.1, 0.2, 0.3], [3, 2, 1]) == pytest.approx(-1)
    assert pearson([0.5, 0.5], [1, 2]) == 0
