"""Labels that are held until another class is clearly ahead, against the definition at full size in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lowlat
import lowlat.video.steady as steady_module
from lowlat.runtime import FrameResult
from lowlat.video.steady import Steady

GRID, SIZE, CLASSES = (6, 9), (23, 41), 5


def result_of(scores, size=SIZE):
    full = F.interpolate(torch.from_numpy(scores)[None].double(), size, mode="bilinear")[0]
    return FrameResult(0, full.argmax(0).to(torch.uint8).numpy(), 0, scores=scores)


def random_video(frames, size=SIZE, still=True):
    """Yield frames with their results: scores change a little, pictures only if they are not ``still``."""
    random = np.random.default_rng(7)
    scores, picture = random.normal(size=(CLASSES, *GRID)), random.integers(0, 256, (*GRID, 3))
    for _ in range(frames):
        scores = scores + random.normal(scale=0.3, size=scores.shape)
        if not still:
            picture = np.clip(picture + random.integers(-30, 31, picture.shape), 0, 255)
        rows, columns = (np.arange(side) * n // side for n, side in zip(GRID, size, strict=True))
        yield picture[rows][:, columns].astype(np.uint8), result_of(scores.astype(np.float32), size)


def by_definition(video, margin):
    """Yield the labels to show, every score at full size; pictures are plain within each place of the grid."""
    before = None
    for frame, result in video:
        full = F.interpolate(torch.from_numpy(result.scores)[None].double(), result.labels.shape, mode="bilinear")[0]
        shown = result.labels.copy()
        if before is not None:
            labels, picture = before
            changed = np.abs(frame.astype(float) - picture.astype(float)).mean(2)
            for y, x in np.ndindex(*shown.shape):
                lead = full[:, y, x].max() - full[labels[y, x], y, x]
                if lead <= margin * np.exp(-changed[y, x] / 10):
                    shown[y, x] = labels[y, x]
        before = shown, frame
        yield shown


@pytest.mark.parametrize("size", [SIZE, (60, 45), GRID])
@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("margin", [0, 0.5, 2])
def test_labels_are_held_as_defined(size, still, margin, monkeypatch):
    # A few pixels at once, as in a frame of millions.
    monkeypatch.setattr(steady_module, "AT_ONCE", 100)
    steady = Steady(margin)
    held = 0
    video = list(random_video(6, size, still))
    for (frame, result), expected in zip(video, by_definition(video, margin), strict=True):
        own = result.labels.copy()
        found = steady(frame, result)
        assert found.dtype == np.uint8 and np.array_equal(found, expected)
        assert np.array_equal(result.labels, own)
        held += np.count_nonzero(found != own)
    assert (held > 0) == (margin > 0)


def test_nothing_is_held_behind_a_cut_nor_on_a_first_frame():
    (one, first), (_, second) = random_video(2)
    assert not np.array_equal(first.labels, second.labels)
    steady, cut = Steady(), 255 - one
    assert steady(one, first) is first.labels
    assert not np.array_equal(steady(one, second), second.labels)
    steady.forget()
    assert steady(one, second) is second.labels
    strong = Steady(1e3)
    strong(one, first)
    assert np.array_equal(strong(one, second), first.labels)
    sudden = Steady()
    sudden(np.zeros_like(one), first)
    assert np.array_equal(sudden(np.full_like(cut, 255), second), second.labels)


def test_labels_that_are_drawn_into_change_none_that_come():
    video, plain, drawn = list(random_video(4)), Steady(), Steady()
    expected = [plain(frame, result).copy() for frame, result in video]
    for (frame, result), labels in zip(video, expected, strict=True):
        shown = drawn(frame, FrameResult(0, result.labels.copy(), 0, scores=result.scores))
        assert np.array_equal(shown, labels)
        shown[:] = 4


def test_a_frame_of_another_size_or_grid_shows_its_own_labels():
    steady = Steady()
    for size in (SIZE, (60, 45)):
        for frame, result in random_video(1, size):
            assert steady(frame, result) is result.labels
    scores = np.random.default_rng(1).normal(size=(CLASSES, 4, 4)).astype(np.float32)
    other = result_of(scores, (60, 45))
    assert steady(np.zeros((60, 45, 3), np.uint8), other) is other.labels


def test_scores_at_the_frames_size_and_of_fewer_classes_are_taken():
    video = list(random_video(3))
    coarse, fine = Steady(), Steady()
    for frame, result in video:
        scores = F.interpolate(torch.from_numpy(result.scores)[None], SIZE, mode="bilinear")[0].numpy()
        at_size = FrameResult(0, result.labels, 0, scores=scores)
        assert np.mean(coarse(frame, result) == fine(frame, at_size)) > 0.999
    fewer = result_of(video[0][1].scores[:2])
    assert np.array_equal(coarse(video[0][0], fewer) < 2, np.ones(SIZE, bool))


def test_scores_that_are_no_numbers_hold_nothing():
    (frame, first), (_, second) = random_video(2)
    steady = Steady()
    steady(frame, first)
    second.scores[:] = np.nan
    assert np.array_equal(steady(frame, second), second.labels)


def test_numbers_of_numpy_are_taken():
    video = list(random_video(2))
    kinds = [Steady(kind) for kind in (0.5, np.float32(0.5), np.float64(0.5))]
    shown = [[steady(*one) for one in video][1] for steady in kinds]
    assert np.array_equal(shown[0], shown[1]) and np.array_equal(shown[0], shown[2])
    Steady(np.int64(1))


@pytest.mark.parametrize("margin", [-1, float("nan"), float("inf"), "0.5", True, None])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match="Steady: expected margin as a number from 0 up, got"):
        Steady(margin)


def test_a_result_without_scores_and_another_frame_are_refused():
    ((frame, result),) = random_video(1)
    with pytest.raises(ValueError, match="ask for them by scores=True"):
        Steady()(frame, FrameResult(0, result.labels, 0))
    for wrong, got in (
        (frame.transpose(1, 0, 2), r"\(41, 23, 3\)"),
        (frame[:, :, 0], r"\(23, 41\)"),
        (None, "NoneType"),
    ):
        with pytest.raises(ValueError, match=rf"expected a frame as an array of \(23, 41, 3\), .* got {got}; give"):
            Steady()(wrong, result)


def test_it_goes_with_a_segmenter():
    steady, frame = lowlat.Steady(), np.random.default_rng(3).integers(0, 256, (96, 128, 3), np.uint8)
    with lowlat.VideoSegmenter("lite") as segmenter:
        for _ in range(3):
            shown = steady(frame, segmenter.step(frame, scores=True))
            assert shown.shape == (96, 128) and shown.dtype == np.uint8
