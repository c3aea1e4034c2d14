"""What `lowlat.adopt` and `lowlat.split_points` don't take: one error each, which names the mend."""

import logging

import pytest
import small
import torch
import zoo
from torch import nn

import lowlat
from lowlat.adoption.network import AdoptedNetwork

pytestmark = pytest.mark.usefixtures("one_thread")
EXAMPLE = torch.zeros(1, 3, 32, 48)


def adopt(model, **options):
    given = {"split": "stem", "features": "neck", "example": EXAMPLE, "classes": 3, **options}
    return lowlat.adopt(model, **given)


CASES = {
    "no such split": ({"split": "blocks.7"}, "split to name a module .* got 'blocks.7'; the closest are blocks"),
    "no such features": ({"features": "nec"}, "features to name .* got 'nec'; the closest are neck"),
    "features before the split": (
        {"split": "blocks.1", "features": "stem"},
        "features behind the split, got features='stem' before split='blocks.1'; name a module that comes later",
    ),
    "features are the split": ({"features": "stem"}, "features behind the split"),
    "names of too few classes": (
        {"classes": ["road", "car"]},
        "classes for the model's 3 scores, got 2: road, car; nam",
    ),
    "too many classes": ({"classes": 4}, "classes for the model's 3 scores, got 4"),
    "classes that are none": ({"classes": "road"}, "classes as names, .* got 'road'"),
    "no classes": ({"classes": []}, r"classes as names, .* got \[\]"),
    "no split": ({"split": None}, "expected split and features, got not both; lowlat.split_points"),
    "an example of one channel": (
        {"example": torch.zeros(1, 1, 32, 48)},
        r"a frame \(1, 3, H, W\), got \(1, 1, 32, 48\)",
    ),
    "a mean of one number": ({"mean": (0.5,)}, "mean as three numbers"),
    "a deviation of 0": ({"std": (1.0, 0.0, 1.0)}, "std as three numbers"),
    "a part by hand alone": ({"lower": nn.Identity()}, "lower, higher and classify together, got some of them"),
    "scores that aren't there": ({"output": "aux"}, "scores"),
    "a model without a size's room": ({"example": torch.zeros(1, 3, 1, 0)}, "frame"),
}


@pytest.mark.parametrize("case", CASES)
def test_arguments_that_make_no_sense(case):
    options, message = CASES[case]
    if case == "scores that aren't there":
        model = zoo.TwoBranches()
        model.forward = lambda frames: {"out": frames}
        options = {**options, "split": "stem", "features": "fuse"}
    else:
        model = small.Plain()
    with pytest.raises(ValueError, match=message):
        adopt(model, **options)


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"a torch.nn.Module, got str"):
        adopt("model.pt")
    with pytest.raises(TypeError, match=r"example as a tensor \(1, 3, H, W\), got tuple"):
        adopt(small.Plain(), example=(1, 3, 32, 48))


def test_a_model_that_decides_by_its_numbers_is_sent_to_three_callables():
    message = r"decides by the numbers in a tensor: .*; give its parts by hand: lowlat.adopt\(lower="
    for use in (adopt, lambda model: lowlat.split_points(model, EXAMPLE)):
        with pytest.raises(ValueError, match=message):
            use(small.Deciding())


def test_a_model_that_differs_from_itself_is_refused_by_the_module_that_does():
    with pytest.raises(ValueError, match=r"got another result from the module 'blocks\.1' each time"):
        adopt(small.Counting())


def test_parts_that_differ_from_the_model_are_refused_by_the_first_module_that_does():
    with pytest.raises(
        ValueError, match=r"scores for frames of 48x32 to 1e-05, got others, first in the module 'blocks\.1'"
    ):
        adopt(small.Remembering())
    assert isinstance(adopt(small.Remembering(), check=False), AdoptedNetwork)


def test_features_that_are_not_all_the_scores_need_are_refused_by_what_else_they_need():
    message = r"features='decoder.blocks.1' alone, .* needs encoder.relu, encoder.layer1 too; name a later .*decoder"
    entry = zoo.ZOO["unet"]
    with pytest.raises(ValueError, match=message):
        lowlat.adopt(
            zoo.build("unet"),
            split="encoder.layer2",
            features="decoder.blocks.1",
            example=torch.zeros(1, 3, *entry.size),
            classes=5,
        )


def test_a_branch_beside_the_split_is_no_place_for_features():
    with pytest.raises(ValueError, match="got features='compress.0' beside split='detail.0'"):
        adopt(zoo.TwoBranches(), split="detail.0", features="compress.0", example=torch.zeros(1, 3, 64, 96), classes=5)


def test_a_size_that_the_model_does_not_take_is_one_error_and_no_traceback_of_torch(monkeypatch):
    logged = []
    monkeypatch.setattr(logging.getLogger("torch._subclasses.fake_tensor"), "handle", logged.append)
    network = adopt(small.Strict(), features="mix")
    assert network.multiple == 16
    with pytest.raises(ValueError, match="can trace for frames of 40x24, got RuntimeError: Sizes of tensors must"):
        network.lower(torch.zeros(1, 3, 24, 40))
    assert not logged


def test_parts_by_hand_that_disagree():
    model = small.Plain()
    parts = {"lower": model.stem, "higher": [*model.blocks, model.neck], "classify": model.head}

    def by_hand(**changes):
        return lowlat.adopt(**{**parts, **changes}, example=EXAMPLE, classes=3)

    with pytest.raises(
        ValueError, match=r"expected classify to take what the part before gives, \(1, 8, 8, 12\) for fra"
    ):
        by_hand(higher=model.blocks)
    with pytest.raises(ValueError, match=r"a map \(1, channels, h, w\) from lower, got \(1, 8\)"):
        by_hand(lower=nn.Sequential(model.stem, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(ValueError, match="higher as a callable or several, got an empty sequence"):
        by_hand(higher=[])
    with pytest.raises(TypeError, match="as modules or as methods of one module, got .*function.*whose weights nobody"):
        by_hand(lower=lambda frames: model.stem(frames))
    with pytest.raises(ValueError, match="no split or features beside lower"):
        by_hand(split="stem")
    with pytest.raises(TypeError, match="functions of .model, input. beside a model, got modules or methods; leave"):
        by_hand(model=model)


def test_a_size_whose_features_look_like_another_sizes_is_refused():
    network = adopt(small.Aligned())
    network.lower(torch.zeros(1, 3, 32, 48))
    with pytest.raises(ValueError, match="features tell their size, got 47x31, .* of 48x32; resize .* multiples of 4"):
        network.lower(torch.zeros(1, 3, 31, 47))
    with pytest.raises(ValueError, match="expected F_l as its own parts give it, got one of 5x7 positions"):
        network.higher(torch.zeros(1, 8, 7, 5))
