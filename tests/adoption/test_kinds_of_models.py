"""What models from elsewhere do in their own ways: adopted all the same, or refused by one error."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import small
import torch
import zoo
from small import EXAMPLE, Returning, adopt
from torch import nn

import lowlat
from lowlat import VideoSegmenter
from lowlat.adoption import points
from lowlat.adoption.tracing import trace
from lowlat.runtime.options import DEFAULT, Options, prepared
from lowlat.schedule import Every

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = tuple(EXAMPLE.shape[-2:])


@dataclass
class Parts:
    features: torch.Tensor
    masks: torch.Tensor


class Pair(NamedTuple):
    features: torch.Tensor
    masks: torch.Tensor


@pytest.mark.parametrize("make", [Parts, Pair, lambda frames, scores: {"features": frames, "masks": scores}])
def test_scores_are_found_by_name_and_never_by_chance(make):
    with pytest.raises(ValueError, match=r"from the model, got \['features', 'masks'\]; give their name as output="):
        adopt(Returning(make))
    assert adopt(Returning(make), output="masks").classes == 3
    assert adopt(Returning(lambda frames, scores: {"loss": None, "masks": scores})).classes == 3


def test_scores_of_one_class_are_refused_with_what_to_return():
    with pytest.raises(ValueError, match=r"two classes or more, .* got one, .*; wrap .* torch.cat\(\(torch.zeros_like"):
        adopt(small.Plain(classes=1), classes=1)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_programs_without_modules_are_refused():
    program = torch.export.export(small.Plain().eval(), (EXAMPLE,)).module()
    for model in (torch.jit.trace(small.Plain(), EXAMPLE), program):
        for use in (adopt, lambda model: lowlat.split_points(model, EXAMPLE)):
            with pytest.raises(TypeError, match="expected a model of Python modules, got a program of torch.jit or "):
                use(model)


def test_a_compiled_model_is_cut_by_the_names_of_the_one_within():
    assert adopt(torch.compile(small.Plain())).classes == 3
    assert lowlat.split_points(torch.compile(small.Plain()), EXAMPLE).features == "neck"


class WithoutAutocast(small.Plain):
    def high(self, low):
        with torch.autocast("cpu", enabled=False):
            return super().high(low.float())


class Normalising(small.Plain):
    """Normalises the frame that it is given in place."""

    def forward(self, frames):
        return super().forward(frames.sub_(0.5).div_(0.25))


class Bordered(small.Plain):
    """A convolution of one position that adds zeros around the map, and one that takes a border away."""

    def __init__(self):
        super().__init__()
        self.blocks[0], self.blocks[1] = nn.Conv2d(8, 8, 1, padding=1), nn.Conv2d(8, 8, 3)


class Coordinates(small.Plain):
    """Tells its layers where they are, by numbers that it makes for the size of each frame."""

    def __init__(self):
        super().__init__()
        self.join = nn.Conv2d(10, 8, 1)

    def high(self, low):
        axes = [torch.linspace(-1, 1, side) for side in low.shape[-2:]]
        return super().high(self.join(torch.cat((low, torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]), 1)))


class Rows(nn.Module):
    """A window transformer's layout: maps ``(1, h, w, C)``, as many channels as rows of positions."""

    def __init__(self, channels=8):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU()) for _ in range(3)
        )
        self.merge, self.neck = nn.Linear(4 * channels, channels), nn.Linear(channels, channels)
        self.head = nn.Conv2d(channels, 3, 1)

    def forward(self, frames):
        x = self.stem(frames).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = x + block(x)
        x = self.merge(torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1))
        return self.head(self.neck(x).permute(0, 3, 1, 2))


class Hooked(small.Plain):
    """Has a hook keep what a layer gives, and reads it from there."""

    def __init__(self):
        super().__init__()
        self.kept = {}
        self.stem[2].register_forward_hook(lambda module, given, output: self.kept.update(stem=output))

    def high(self, low):
        return super().high(low) + torch.cat([self.kept["stem"]] * 2, 1)


@pytest.mark.parametrize("make", [WithoutAutocast, Normalising, Bordered, Coordinates, Rows, Hooked])
@torch.no_grad()
def test_it_runs_as_the_model_does_and_in_half_precision(make):
    torch.manual_seed(0)
    places = {Rows: {"split": "blocks.1"}, Hooked: {"split": "blocks.0", "features": "head"}}
    network = adopt(make(), **places.get(make, {}))
    frame = torch.randn(1, 3, *SIZE)
    # That the parts give the model's scores has been checked where it was adopted.
    scores = network(frame)
    ready = prepared(network, DEFAULT)(frame.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(ready, scores, rtol=1e-4, atol=1e-5)
    half = prepared(network, Options(dtype="bfloat16"))(frame.bfloat16())
    assert half.dtype == torch.bfloat16 and (half - scores).abs().max() < 0.05 * scores.abs().max()
    with VideoSegmenter(network, policy=Every(2), mode="blocking", cores=1) as segmenter:
        results = [segmenter.step(frame) for frame in zoo.frames(SIZE, 4)]
    assert all(result.error is None and result.labels.shape == SIZE for result in results)


def test_a_map_with_its_channels_last_is_one_to_the_fast_track():
    model = Rows()
    rows = {row.name: (row.channels, row.stride) for row in lowlat.split_points(model, EXAMPLE, features="neck")}
    assert rows["stem"] == rows["blocks.1.2"] == (8, 4) and rows["merge"] == (8, 8)
    network = adopt(model, split="blocks.1")
    low, *along = network.lower(torch.randn(1, 3, *SIZE))
    assert low.shape == (1, 8, 8, 12) and {tensor.shape for tensor in along} == {(1, 8, 12, 8)}
    assert any(torch.equal(low, tensor.permute(0, 3, 1, 2)) for tensor in along)
    assert network.higher((low, *along)).shape == (1, 8, 4, 6)


class Fine(nn.Module):
    """Stride 2, and back to the frame's own size."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.up, self.head = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, 3, 1)

    def forward(self, frames):
        return self.head(self.up(torch.relu(self.body(self.stem(frames)))))


def test_fine_features_have_the_same_channels_at_every_working_size():
    """Positions finer than four pixels are propagated side by side: as many at a size whose sides are odd multiples."""
    for options, multiple, channels in (({}, 4, 8 * 16), ({"multiple": 2}, 2, 8 * 4)):
        network = adopt(Fine(), features="up", **options)
        assert network.multiple == multiple
        for size in ((32, 48), (6 * multiple + multiple, 48)):
            assert network.higher(network.lower(torch.zeros(1, 3, *size))).shape[1] == channels
    network = adopt(Fine(), features="up")
    with pytest.raises(ValueError, match="F_l and F_h have 8 and 128 channels, .* got 50x30, .*; resize .* of 4"):
        network.lower(torch.zeros(1, 3, 30, 50))


def test_steps_that_depend_on_numbers_are_told_in_one_line(capfd):
    class Looping(small.Plain):
        def high(self, low):
            for _ in range(int(low.abs().mean() * 10) % 3 + 1):
                low = torch.relu(low)
            return super().high(low)

    for model, file in ((small.Deciding(), "small.py"), (Looping(), "test_kinds_of_models.py")):
        with pytest.raises(
            ValueError, match=rf"the numbers in a tensor: .{{,80}} in line \d+ of {file}; give its parts"
        ):
            adopt(model)
    assert capfd.readouterr() == ("", "")


class Shifting(small.Plain):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, frames):
        return super().forward(frames + self.shift)


def test_costs_are_measured_where_the_model_is():
    """The model would raise an error on tensors of two devices."""
    model = Shifting().eval()
    traced = trace(model, SIZE)
    on_host, _ = points._costs(traced, model)
    traced.image.meta["val"] = torch.empty(1, 3, *SIZE, device="meta")
    elsewhere, seconds = points._costs(traced, model.to("meta"))
    assert elsewhere == on_host and set(seconds) == set(on_host)


def test_parts_by_hand_are_compared_with_the_model_at_its_own_size():
    model = small.Plain()
    network = lowlat.adopt(lower=model.low, higher=model.high, classify=model.scores, example=EXAMPLE, classes=3)
    assert network(EXAMPLE).shape == (1, 3, 8, 12) and model(EXAMPLE).shape == (1, 3, *SIZE)


class Staged(small.Plain):
    """Leaves out a block where it is called in stages."""

    def shortened(self, low):
        return self.neck(torch.relu(self.blocks[2](torch.relu(self.blocks[0](low)))))


class StagesAlone(nn.Module):
    """Has no forward of its own."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 3, 1)

    def low(self, frames):
        return self.stem(frames)

    def high(self, low):
        return self.body(low)

    def scores(self, high):
        return self.head(high)


def test_parts_by_hand_that_do_something_else_than_the_model_are_told_by_the_first_module():
    model = Staged()
    with pytest.raises(
        ValueError, match=r"got others, first in the module 'blocks\.1'; have the three do all that its"
    ):
        lowlat.adopt(lower=model.low, higher=model.shortened, classify=model.scores, example=EXAMPLE, classes=3)
    model = StagesAlone()
    network = lowlat.adopt(lower=model.low, higher=model.high, classify=model.scores, example=EXAMPLE, classes=3)
    assert np.array_equal(network(EXAMPLE).shape, (1, 3, 8, 12))
