"""Pairs from labelled video: at the distances asked for, in one video, the same crop of both frames.

Pairs from stills: from images of any sizes, read when they are needed.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lowlat.lab.data.dataset import LabelledImages
from lowlat.lab.data.pairs import DISTANCES, FARTHER, ClipPairs, Crops, VideoPairs
from lowlat.lab.data.simulated import Moving, SimulatedPairs, Things
from lowlat.lab.data.street import Street

SIZE = (36, 48)
pytestmark = pytest.mark.usefixtures("one_thread")


class Ramps(LabelledImages):
    """Videos whose red is the frame's number, whose green and blue are the place; labels say the column."""

    classes, palette, split = tuple("abcdefg"), ((0, 0, 0),) * 7, "train"

    def __init__(self, videos, labelled, size=(90, 240)):
        self.videos, self._labelled, self.size = videos, set(labelled), size
        self.asked = []

    def __len__(self):
        return self.videos[-1].stop

    def image(self, index):
        self.asked.append(index)
        y, x = torch.meshgrid(*(torch.linspace(0, 255, side) for side in self.size), indexing="ij")
        return torch.stack((torch.full_like(x, index), y, x)).round().byte()

    def label(self, index):
        label = (torch.arange(self.size[1]) * 8 // self.size[1]).byte().expand(self.size)
        # The last eighth is void, by a value like those of Cityscapes.
        return torch.where(label == 7, 255, label) if self.labelled(index) else None

    def labelled(self, index):
        return index in self._labelled


def features(frames):
    """Return what a crop shows: frame number, then the places of its edges."""
    assert frames.shape[1:] == (3, *SIZE)
    number, y, x = (frames[:, channel] for channel in range(3))
    low = torch.stack((number.mean((1, 2)), y[:, 0, 0], y[:, -1, 0], x[:, 0, 0], x[:, 0, -1]), 1)[..., None, None]
    return low, low[:, :1], torch.zeros(len(frames), *SIZE, dtype=torch.uint8)


def draw(data, count=16, between=1, **options):
    pairs = VideoPairs(data, features, Crops(SIZE), **options)
    return pairs, pairs.batch(count, torch.Generator().manual_seed(0), between=between)


@pytest.fixture
def plain(monkeypatch):
    """Leaves the colours of pairs as they are."""
    for module in ("pairs", "simulated"):
        monkeypatch.setattr(f"lowlat.lab.data.{module}.jitter_colours", lambda images, generator, strength: images)


def test_distances_lie_in_the_range_and_never_across_a_cut(plain):
    data = Ramps([range(0, 25), range(25, 50), range(50, 52)], range(52))
    pairs, batch = draw(data, count=80)
    key, middle, current = (t[:, 0, 0, 0].round() for t in (batch.low, batch.between[:, 0], batch.current))
    distance = current - key
    assert distance.min() == DISTANCES[0] and distance.max() == DISTANCES[1]
    assert torch.equal(key // 25, current // 25)
    assert ((key < middle) & (middle < current)).all()
    assert max(pairs.keys) <= 47, "the last video is too short"


def test_key_middle_current_and_labels_show_the_same_crop(plain):
    data = Ramps([range(60)], range(60))
    _, batch = draw(data)
    assert batch.labels.shape == (16, *SIZE) and batch.labels.dtype == torch.int64
    edges = batch.low[:, 1:, 0, 0]
    for frames in (batch.between[:, 0], batch.current):
        _, y, x = frames.unbind(1)
        seen = torch.stack((y[:, 0, 0], y[:, -1, 0], x[:, 0, 0], x[:, 0, -1]), 1)
        # Features are kept in half precision.
        assert torch.allclose(seen, edges, atol=0.2)
    expected = (batch.current[:, 2] / 255 * 239 + 0.5) / 240 * 8
    clear = ((expected - expected.round()).abs() > 0.1) & (batch.labels < 7)
    assert torch.equal(batch.labels[clear], expected[clear].long())
    assert (batch.labels == 7).any() and batch.labels.max() == 7, "void is the number of classes"
    widths, heights = (edges[:, 3] - edges[:, 2]).abs() / 255 * 240, (edges[:, 1] - edges[:, 0]).abs() / 255 * 90
    assert torch.allclose(widths / heights, torch.full((16,), SIZE[1] / SIZE[0]), rtol=0.03), "no crop is squeezed"
    assert len({tuple(row) for row in edges.int().tolist()}) > 8 and (edges[:, 3] < edges[:, 2]).any()


def test_snippets_put_the_key_before_the_labelled_frame(plain):
    """Cityscapes: the 20th of 30."""
    data = Ramps([range(0, 30), range(30, 60)], [19, 49])
    pairs, batch = draw(data, count=40, between=0)
    assert batch.between is None
    assert set(pairs.keys) == {*range(9, 18), *range(39, 48)}
    assert set(batch.current[:, 0, 0, 0].round().int().tolist()) == {19, 49}
    keys = set(batch.key[:, 0, 0, 0].round().int().tolist())
    assert keys <= set(pairs.keys) and len(keys) > 12
    assert set(data.asked) == {19, 49, *keys}


def test_frames_that_nobody_labelled_serve_where_labels_are_not_wanted(plain):
    data = Ramps([range(0, 30)], [19])
    pairs, batch = draw(data, count=40, labelled=False)
    assert batch.labels is None and len(pairs.keys) == 28
    distance = (batch.current - batch.key)[:, 0, 0, 0].round()
    assert distance.min() >= DISTANCES[0] and distance.max() <= DISTANCES[1] and len(distance.unique()) > 5


def test_a_seed_gives_the_same_pairs():
    street = Street(seed=2, size=(45, 60), frames=40)
    (_, first), (_, second) = draw(street, count=3), draw(street, count=3)
    for name in ("key", "low", "high", "between", "current", "labels"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.labels.unique().numel() > 3


@pytest.mark.parametrize("videos, labelled", [([], range(9)), ([range(0, 20)], [1]), ([range(0, 2)], [0, 1])])
def test_sets_without_such_pairs_are_refused(videos, labelled):
    with pytest.raises(ValueError, match="labelled frame 2 to 10 frames after another"):
        VideoPairs(Ramps(videos, labelled), features, Crops(SIZE))


class Stills(Ramps):
    """The same frames without their order, each of a size of its own."""

    def __init__(self, sizes):
        super().__init__([], range(len(sizes)))
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def image(self, index):
        self.size = self.sizes[index]
        return super().image(index)

    def label(self, index):
        self.size = self.sizes[index]
        return super().label(index)


def simulate(data, indices, seen=None, things=0):
    return SimulatedPairs(data, indices, features, Crops(SIZE, seen), things=things)


def test_simulated_pairs_are_made_of_images_of_any_sizes(plain):
    data = Stills([(90, 240), (60, 80), (36, 48), (200, 100)])
    batch = simulate(data, [0, 1, 3]).batch(32, torch.Generator().manual_seed(1), between=1)
    taken = batch.key[:, 0].mean((1, 2)).round().long()
    assert set(taken.tolist()) == {0, 1, 3}
    for frames in (batch.key, batch.between[:, 0], batch.current):
        assert frames.shape == (32, 3, *SIZE)
        assert torch.equal(frames[:, 0].mean((1, 2)).round().long(), taken), "another image"
    # The place that a pixel shows, by its blue, has the label of its column; the last eighth is void.
    expected = batch.current[:, 2] / 255 * 8
    clear = ((expected - expected.round()).abs() > 0.2) & (batch.labels < 7)
    assert torch.equal(batch.labels[clear], expected[clear].long())
    assert batch.labels.max() == 7, "void is the number of classes"


def test_simulated_pairs_read_what_they_need(plain):
    data = Stills([(36, 48)] * 9)
    pairs = simulate(data, [2, 5, 7])
    assert data.asked == []
    batch = pairs.batch(2, torch.Generator().manual_seed(1), between=1)
    assert data.asked == batch.key[:, 0, 0, 0].round().int().tolist() and set(data.asked) <= {2, 5, 7}


@pytest.mark.parametrize("seen, scale", [(None, 36 / 90), (lambda *_: (72, 192), 72 / 90), (lambda *_: (18, 48), 0.4)])
def test_crops_have_the_scale_of_the_working_size_and_the_images_aspect(plain, seen, scale):
    """A pixel across and one down stand for as many of the image's; a crop larger than the working size enlarges it."""
    frames = simulate(Ramps([range(9)], range(9)), range(9), seen).batch(24, torch.Generator()).key
    down = (frames[:, 1, -1, 0] - frames[:, 1, 0, 0]) / 255 * 89 / (SIZE[0] - 1)
    across = (frames[:, 2, 0, -1] - frames[:, 2, 0, 0]).abs() / 255 * 239 / (SIZE[1] - 1)
    assert torch.allclose(down, across, rtol=0.1), "squeezed"
    assert down.max() == pytest.approx(1 / scale, rel=0.05) and down.min() > 1 / scale / 1.75


def test_simulated_pairs_drawn_by_threads_are_those_of_one(plain):
    pairs = simulate(Street(seed=2, size=(45, 60), frames=40), [0, 13, 26, 39])

    def drawn(seed):
        batch = pairs.batch(2, torch.Generator().manual_seed(seed), between=3)
        return torch.cat(
            (batch.key, batch.between.flatten(0, 1), batch.current, batch.labels[:, None].expand(-1, 3, -1, -1))
        )

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(drawn, range(12)))
    for seed, batch in enumerate(together):
        assert torch.equal(batch, drawn(seed)), seed


class Blocks(Stills):
    """Images of class 0 alone, but for a block of class 2 in the middle, which is white."""

    classes = ("all", "none", "block")

    def image(self, index):
        image = torch.full((3, 60, 80), 20, dtype=torch.uint8)
        image[:, 25:35, 30:50] = 255
        return image

    def label(self, index):
        label = torch.zeros(60, 80, dtype=torch.uint8)
        label[25:35, 30:50] = 2
        return label


def test_things_move_before_the_rest_with_their_labels(plain):
    """A white block is of class 2 wherever it is, on the ground or before it, and it covers what is there."""
    data = Blocks([(60, 80)] * 3)
    many = simulate(data, [0, 1, 2], things=1.0).batch(64, torch.Generator().manual_seed(2), between=2)
    none = simulate(data, [0, 1, 2]).batch(64, torch.Generator().manual_seed(2), between=2)
    for batch in (many, none):
        bright = batch.current[:, 0] > 140
        agree = (bright == (batch.labels == 2)).float().mean()
        assert agree > 0.97 and bright.float().mean() > 0.02
    ones, twos = ((batch.labels == 2).sum((1, 2)).float().mean() for batch in (none, many))
    assert twos > 1.2 * ones
    # A thing is at another place in the key frame, or not there: no motion of the ground makes two blocks of one.
    white = [(frames[:, 0] > 140).sum((1, 2)).float() for frames in (many.key, many.current)]
    change = (white[1] / white[0].clamp(min=1)).log().abs()
    assert (change > 0.5).sum() > 8, "some appear or vanish on the way"


def test_void_is_no_thing(plain):
    """Around an image, in a crop that reaches beyond it, is void: nothing of it comes before other frames."""
    image, truth = torch.full((3, 36, 48), 200, dtype=torch.uint8), torch.full((36, 48), 3, dtype=torch.uint8)
    truth[:, :24] = 2
    generator = torch.Generator().manual_seed(0)
    moving = Moving([image] * 8, [truth] * 8, Crops(SIZE), torch.full((8,), 10.0), generator)
    things = Things(moving, torch.ones(8, 3, dtype=torch.bool), generator)
    things.appear, things.vanish = torch.full((8,), -1.0), torch.full((8,), 2.0)
    frames, mask, labels = things.before(torch.zeros(8, 3, *SIZE), torch.ones(8, 1, 1, 1))
    assert (labels == 3).any() and (labels == 2).any()
    assert torch.equal(mask, labels == 2) and torch.equal(frames[:, 0] > 0, mask)


def test_what_drifts_moves_as_a_whole_besides(plain):
    image, truth = torch.zeros(3, 36, 48, dtype=torch.uint8), torch.zeros(36, 48, dtype=torch.uint8)

    def motion(*drift):
        generator = torch.Generator().manual_seed(0)
        return Moving([image] * 64, [truth] * 64, Crops(SIZE), torch.full((64,), 5.0), generator, *drift).motion

    still = motion((0.0, 0.0))
    assert torch.equal(motion(), still)
    more = motion((0.4, 0.1)) - still
    assert torch.allclose(more, more[:, :1, :1].expand_as(more), atol=1e-6), "every place by as much"
    # Half as far as at the longest distance.
    for axis, most in ((0, 0.2), (1, 0.05)):
        reached = more[:, 0, 0, axis].abs()
        assert 0.8 * most < reached.max() <= most + 1e-6


def test_things_are_there_from_where_they_appear_to_where_they_vanish(plain):
    image, truth = torch.full((3, 36, 48), 200, dtype=torch.uint8), torch.zeros(36, 48, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    moving = Moving([image] * 4, [truth] * 4, Crops(SIZE), torch.full((4,), 2.0), generator)
    things = Things(moving, torch.ones(4, 1, dtype=torch.bool), generator)
    things.appear, things.vanish = torch.tensor([-1.0, 0.5, -1.0, 0.2]), torch.tensor([2.0, 2.0, 0.5, 0.8])
    for share, there in ((0.0, [1, 0, 1, 0]), (0.5, [1, 1, 0, 1]), (1.0, [1, 1, 0, 0])):
        _, mask, _ = things.before(torch.zeros(4, 3, *SIZE), torch.full((4, 1, 1, 1), share))
        assert mask.flatten(1).any(1).int().tolist() == there, share


def test_simulated_pairs_of_no_image_are_refused():
    with pytest.raises(ValueError, match="SimulatedPairs: expected labelled images, got none"):
        simulate(Stills([(36, 48)]), [])


def test_frames_between_show_one_place_by_one_camera_in_order():
    """All frames of a pair have its tint; they move on in one direction."""
    data = Ramps([range(200)], range(200))
    drawn = simulate(data, [100]).batch(40, torch.Generator().manual_seed(3), between=3)
    assert drawn.between.shape == (40, 3, 3, *SIZE)
    red = torch.stack((drawn.key, *drawn.between.unbind(1), drawn.current), 1)[:, :, 0].mean((2, 3))
    spread, among = (red[:, :4].amax(1) - red[:, :4].amin(1)).median(), red[:, 0].std()
    assert among > 4 * spread, "frames of a pair have tints of their own"
    clean = (red[:, 0] - 100).abs() < 0.01
    assert 0.25 < clean.float().mean() < 0.75, "half of them are seen by the camera itself"
    blue = torch.stack((drawn.key, *drawn.between.unbind(1)), 1)[clean][:, :, 2]
    moved = (blue - blue[:, :1]).abs().mean((2, 3))
    assert (moved[:, 1:].diff(dim=1) > 0).float().mean() > 0.9


def test_frames_between_keep_the_order_of_their_clip(plain):
    frames = torch.arange(14, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, *SIZE)
    batch = ClipPairs([frames, frames[:9]], features).batch(60, torch.Generator().manual_seed(0), between=3)
    seen = torch.cat((batch.key[:, None], batch.between, batch.current[:, None]), 1)[:, :, 0, 0, 0]
    assert (seen.diff(dim=1) > 0).all()
    distance = seen[:, -1] - seen[:, 0]
    assert distance.min() == FARTHER[0] and distance.max() == 13, "no farther than the clip goes"
