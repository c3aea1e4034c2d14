"""`lowlat.split_points`: which modules it lists, what it says of each, and which one it would choose."""

import json

import pytest
import small
import torch
import zoo
from torch import nn

import lowlat

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def points():
    entry = zoo.ZOO["fpn"]
    return lowlat.split_points(zoo.build("fpn"), torch.zeros(1, 3, *entry.size))


def test_every_row_can_be_adopted_and_says_what_comes_of_it(points):
    entry = zoo.ZOO["fpn"]
    row = next(row for row in points if row.name == "encoder.layer2.1")
    assert (row.channels, row.stride, row.tensors) == (128, 8, 2) and row.block
    # F_l of 128 x 8 x 12, and the skip of 64 x 16 x 24, in float32.
    assert row.megabytes == pytest.approx((128 * 8 * 12 + 64 * 16 * 24) * 4 / 1e6)
    for name in ("encoder.layer1.0", "encoder.layer3.0", "decoder.p4"):
        network = lowlat.adopt(
            zoo.build("fpn"),
            split=name,
            features=points.features,
            example=torch.zeros(1, 3, *entry.size),
            classes=5,
            check=False,
        )
        low = network.lower(torch.zeros(1, 3, *entry.size))
        said = next(row for row in points if row.name == name)
        tensors = (low,) if isinstance(low, torch.Tensor) else low
        assert len(tensors) == said.tensors and tensors[0].shape[1] == said.channels
        assert entry.size[0] // tensors[0].shape[-2] == said.stride


def test_shares_rise_along_a_chain_and_end_at_the_whole():
    points = lowlat.split_points(small.Plain(), torch.zeros(1, 3, 32, 48))
    assert points.features == "neck" and [row.name for row in points] == [
        "stem.0", "stem.1", "stem.2", "blocks.0", "blocks.1", "blocks.2"
    ]  # fmt: skip
    flops = [row.flops for row in points]
    assert flops == sorted(flops) and 0 < flops[0] and flops[-1] < 1
    per_position = [3 * 9 * 8 * 4, 8 * 9 * 8, *[8 * 9 * 8] * 3, 8 * 9 * 16]
    assert flops[2] == pytest.approx(sum(per_position[:2]) / sum(per_position))
    assert points.gigaflops == pytest.approx(2 * sum(per_position) * 8 * 12 / 1e9)
    assert all(0 < row.time < 1 for row in points) and points.ms > 0


def test_it_chooses_the_deepest_block_of_a_third_and_says_why(points):
    assert points.chosen == "encoder.layer2.1" and points.features == "decoder"
    chosen = next(row for row in points if row.name == points.chosen)
    assert chosen.flops <= 1 / 3
    assert all(row.flops <= chosen.flops or row.flops > 1 / 3 for row in points if row.block)
    assert (
        points.why
        == f"the deepest block whose S_l has a third of the FLOPs at most ({chosen.flops:.0%}); 2 tensors cross"
    )


def test_of_modules_that_cost_the_same_it_chooses_the_last():
    """A sequence of convolution, norm and activation: the activation's result is F_l, not the convolution's."""
    layers = (nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 1, 1), nn.Conv2d(16, 4, 1))
    points = lowlat.split_points(nn.Sequential(*layers), torch.zeros(1, 3, 32, 48))
    assert points.features == "3" and points.chosen == "2"


def test_printed_it_is_a_table_of_the_blocks(points):
    said, *lines = str(points).splitlines()
    assert said.startswith("S_l's share of FLOPs and time up to F_h; channels")
    assert lines[0].split() == ["split", "FLOPs", "time", "channels", "stride", "tensors", "MB"]
    names = [line.removeprefix("*").split()[0] for line in lines[1:-2]]
    assert "encoder.layer1.0" in names and "encoder.layer1.0.conv1" not in names and len(lines) < len(points)
    assert sum(line.startswith("* ") for line in lines[:-2]) == 1
    assert lines[-1].startswith("* split='encoder.layer2.1': the deepest") and "features='decoder'" in lines[-2]
    assert json.loads(json.dumps(points.as_dict()))["chosen"] == points.chosen


def test_other_features_can_be_asked_for():
    model, example = small.Plain(), torch.zeros(1, 3, 32, 48)
    points = lowlat.split_points(model, example, features="blocks.2")
    assert points.features == "blocks.2" and points.rows[-1].name == "blocks.1"
    with pytest.raises(ValueError, match="features to name .* got 'blocks.9'"):
        lowlat.split_points(model, example, features="blocks.9")
