"""Labels at full size: the fast way on a CPU against the definition, which interpolates every score."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lowlat.classes import Classes
from lowlat.networks import labels as room
from lowlat.networks.labels import full_size_labels, scores_on_host


def defined(scores, size):
    """Returns every score at full size, float64."""
    return F.interpolate(scores.double(), size, mode="bilinear", align_corners=False)


def check(scores, size):
    """The label of every pixel has the highest score there, up to rounding; it is the definition's where no other class
    comes near."""
    found = full_size_labels(scores, size)
    assert found.dtype == torch.uint8 and found.shape == (len(scores), *size)
    full = defined(scores, size)
    best = full.max(1)
    chosen = full.gather(1, found.long()[:, None])[:, 0]
    rounding = 1e-5 * (1 + scores.abs().max().double())
    assert (chosen >= best.values - rounding).all()
    if scores.shape[1] > 1:
        first, second = full.topk(2, 1).values.unbind(1)
        alone = first > second + 2 * rounding
        assert torch.equal(found[alone], best.indices[alone].to(torch.uint8))
    return found


def blobs(classes, size, generator, *, spread=6, noise=0.1):
    """Returns scores that form regions, as those of networks do."""
    h, w = size
    rough = torch.randn(1, classes, h // spread + 2, w // spread + 2, generator=generator)
    return 3 * F.interpolate(rough, size, mode="bicubic") + noise * torch.randn(1, classes, h, w, generator=generator)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(1, 24),
    grid=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    kind=st.sampled_from(["noise", "blobs", "ties", "steps", "constant", "halves"]),
    images=st.integers(1, 2),
    channels_last=st.booleans(),
)
def test_every_pixel_has_the_label_of_the_definition(seed, classes, grid, size, kind, images, channels_last):
    """Frames larger and smaller than the grid, odd ratios, ties, several images."""
    generator = torch.Generator().manual_seed(seed)
    scores = {
        "noise": lambda: torch.randn(1, classes, *grid, generator=generator),
        "blobs": lambda: blobs(classes, grid, generator),
        "constant": lambda: torch.full((1, classes, *grid), float(seed % 7)),
        "halves": lambda: torch.cat(
            (
                blobs(classes, grid, generator)[..., : grid[1] // 2],
                torch.randn(1, classes, grid[0], grid[1] - grid[1] // 2, generator=generator),
            ),
            3,
        ),
        "ties": lambda: torch.randint(0, 2, (1, classes, *grid), generator=generator).float(),
        "steps": lambda: blobs(classes, grid, generator, spread=3, noise=0).round(),
    }
    scores = torch.cat([scores[kind]() for _ in range(images)])
    if channels_last:
        scores = scores.contiguous(memory_format=torch.channels_last)
    check(scores, size)


@pytest.mark.parametrize("classes", [11, 19, 150])
@pytest.mark.parametrize("size", [(1080, 1920), (360, 480), (361, 479)], ids=str)
def test_regions_are_labelled_the_fast_way_with_the_labels_of_the_slow_one(classes, size, monkeypatch):
    scores = blobs(classes, (60, 80), torch.Generator().manual_seed(classes), spread=20)
    slow = room.static_labels(scores, size)
    monkeypatch.setattr(room, "static_labels", None)
    fast = full_size_labels(scores, size)
    assert len(slow.unique()) > 5 and (fast == slow).double().mean() > 0.9999
    assert torch.equal(fast, full_size_labels(scores, size))


def test_a_class_that_leads_at_no_corner_may_lead_between_them():
    scores = torch.full((1, 3, 8, 8), -9.0)
    scores[:, 1] = 1.0
    scores[0, :, 4, 4:6] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.9]])
    found = check(scores, (128, 128))
    assert set(found.unique().tolist()) == {0, 1, 2}


def test_of_equal_classes_the_first_is_shown(monkeypatch):
    scores = blobs(4, (30, 40), torch.Generator().manual_seed(0), spread=10)
    expected = full_size_labels(scores, (300, 400))
    monkeypatch.setattr(room, "static_labels", None)
    assert torch.equal(full_size_labels(torch.cat((scores, scores), 1), (300, 400)), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_get_the_labels_of_the_definition(value):
    scores = blobs(5, (30, 40), torch.Generator().manual_seed(0))
    scores[0, 3, 7, 9:12] = value
    assert torch.equal(full_size_labels(scores, (120, 200)), room.static_labels(scores, (120, 200)))


def test_huge_scores_get_the_labels_of_the_definition():
    scores = blobs(5, (30, 40), torch.Generator().manual_seed(0), noise=0)
    scores *= 3e38 / scores.abs().max()
    found, full = full_size_labels(scores, (240, 320)), defined(scores, (240, 320))
    first, second = full.topk(2, 1).values.unbind(1)
    alone = first > second + 1e33
    assert alone.double().mean() > 0.99 and torch.equal(found[alone].long(), full.argmax(1)[alone])


def test_as_many_classes_as_a_byte_tells_apart():
    scores = blobs(256, (30, 40), torch.Generator().manual_seed(0), spread=10)
    assert check(scores, (240, 320)).max() > 250
    with pytest.raises(ValueError, match="expected 256 at most, since labels are bytes, got 257; join some"):
        Classes.numbered(257)


@pytest.mark.parametrize("kind", ["noise", "beside regions", "scores of the frame's size"])
def test_scores_that_lead_nowhere_for_long_are_interpolated_all_without_looking_at_each(kind, monkeypatch):
    """What looks at every cell is left out, and six rows are looked at, so that it costs next to nothing."""
    size = (360, 480)
    scores = torch.randn(1, 11, 90, 120, generator=torch.Generator().manual_seed(0))
    if kind == "beside regions":
        scores[:, 0, :, :60] += 9
    elif kind != "noise":
        scores = blobs(11, size, torch.Generator().manual_seed(0), spread=40, noise=0)
    expected = room.static_labels(scores, size)
    monkeypatch.setattr(room, "_labels_by_cells", None)
    assert torch.equal(full_size_labels(scores, size), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_of_half_precision_are_interpolated_in_float32(dtype):
    scores = blobs(7, (30, 40), torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(full_size_labels(scores, (240, 320)), full_size_labels(scores.float(), (240, 320)))


def test_labels_of_scores_that_are_being_learned_need_no_gradient():
    scores = blobs(3, (12, 16), torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = full_size_labels(scores, (96, 128))
    assert torch.equal(full_size_labels(scores.requires_grad_(), (96, 128)), expected)


def test_a_tenth_of_the_scores_at_most_is_computed_of_a_large_frame(monkeypatch):
    """What is left out is what makes it fast: counted, since times depend on the machine."""
    computed = 0
    highest = room._highest

    def counted(scores, candidates):
        nonlocal computed
        computed += scores.numel()
        return highest(scores, candidates)

    monkeypatch.setattr(room, "_highest", counted)
    full_size_labels(blobs(11, (78, 138), torch.Generator().manual_seed(0), spread=20, noise=0.02), (1080, 1920))
    assert 0 < computed < 11 * 1080 * 1920 / 10


def test_scores_on_the_host_are_a_copy_at_the_size_asked_for():
    scores = blobs(4, (6, 8), torch.Generator().manual_seed(0))[0]
    grid = scores_on_host(scores, (48, 64), "grid")
    assert grid.dtype == np.float32 and np.array_equal(grid, scores.numpy())
    grid[:] = 0
    assert scores.abs().max() > 0
    full = scores_on_host(scores.bfloat16(), (48, 64), "frame")
    assert full.dtype == np.float32 and full.shape == (4, 48, 64)
    np.testing.assert_allclose(full, defined(scores.bfloat16()[None], (48, 64))[0], atol=1e-5)
