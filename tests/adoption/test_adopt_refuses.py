"""What `lowlat.adopt` and `lowlat.split_points` don't take: one error each, which names the mend."""

import logging
import pickle

import pytest
import small
import torch
import zoo
from small import EXAMPLE, Returning, adopt
from torch import nn

import lowlat
from lowlat.adoption.network import AdoptedNetwork

pytestmark = pytest.mark.usefixtures("one_thread")


TWICE = lowlat.Classes(("a", "b", "a"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
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
    "a name twice": ({"classes": ["a", "b", "a"]}, "a name of its own for every class, got 'a' twice; rename one"),
    "a name twice in a legend": ({"classes": TWICE}, "a name of its own for every class, got 'a' twice"),
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
    "a mean for 0 to 255": (
        {"mean": (123.675, 116.28, 103.53)},
        r"mean as three numbers for RGB in \[0, 1\].*; divide by 255",
    ),
    "no mean": ({"mean": None}, "mean as three numbers .* got None"),
    "a mean of words": ({"mean": "abc"}, "mean as three numbers .* got 'abc'"),
    "a negative deviation": ({"std": (-1.0, 1.0, 1.0)}, "std as three numbers"),
    "multiples of nothing": ({"multiple": 0}, "multiple as a whole number from 1 up, got 0"),
    "multiples of a fraction": ({"multiple": 1.5}, "multiple as a whole number from 1 up, got 1.5"),
    "no channels": ({"reduced": 0}, "reduced as a whole number from 1 up, got 0"),
    "fewer than no channels": ({"fused": -1}, "fused as a whole number from 1 up, got -1"),
    "a frame of one pixel": (
        {"example": torch.zeros(1, 3, 1, 1)},
        "got none for frames of 1x1; give a larger example",
    ),
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

    with pytest.raises(TypeError, match=r"split as the name of a module, got Conv2d; name it"):
        adopt(small.Plain(), split=small.Plain().neck)
    with pytest.raises(TypeError, match=r"split_points: expected a torch.nn.Module, got str"):
        lowlat.split_points("model.pt", EXAMPLE)
    with pytest.raises(ValueError, match=r"split_points: expected example as a frame .* got \(3, 32, 48\)"):
        lowlat.split_points(small.Plain(), EXAMPLE[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_that_are_not_of_float32_are_named(dtype):
    with pytest.raises(ValueError, match=rf"float32, got {str(dtype)[6:]}, 'stem.0.weight'; give model.float\(\)"):
        adopt(small.Plain().to(dtype))
    model = small.Plain().to(dtype)
    with pytest.raises(ValueError, match=rf"adopt: expected a model with weights of float32, got {str(dtype)[6:]}"):
        lowlat.adopt(lower=model.low, higher=model.high, classify=model.scores, example=EXAMPLE, classes=3)
    assert adopt(small.Plain().to(dtype).float()).classes == 3


def test_weights_that_are_nowhere_are_refused():
    with pytest.raises(ValueError, match=r"got one on no device \(meta\), 'stem.0.weight'; load its weights"):
        adopt(small.Plain().to("meta"))


def test_what_a_model_returns_is_said_once_where_it_holds_no_scores():
    message = r"^adopt: expected scores \(N, classes, h, w\) from the model, got {}; give their name as output="
    with pytest.raises(ValueError, match=message.format("tuple")):
        adopt(Returning(lambda frames, scores: (scores, frames)), output=9)
    with pytest.raises(ValueError, match=message.format("tuple")):
        adopt(Returning(lambda frames, scores: (scores, frames)), output="aux")
    with pytest.raises(ValueError, match=message.format(r"a tensor of shape \(1, 32, 48\)")):
        adopt(Returning(lambda frames, scores: scores.argmax(1)))
    with pytest.raises(ValueError, match="which the scores aren't made from; no module of this model will do"):
        adopt(Returning(lambda frames, scores: (scores, frames)), output=1)
    assert adopt(Returning(lambda frames, scores: (scores, frames)), output=-2).classes == 3


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_not_taken_for_chance(factor):
    with pytest.raises(ValueError, match="expected finite scores .* got NaN or infinity, first in .*; load weights"):
        adopt(Returning(lambda frames, scores: scores * factor))


def test_a_model_of_one_size_is_told_what_it_can_do():
    def of_one_size(frames, scores):
        if frames.shape[-2:] != (32, 48):
            raise ValueError("positions for 32x48 alone")
        return scores

    with pytest.raises(ValueError, match="takes 48x32 but not 24x24: .*positions for 32x48 alone.*; with check=False"):
        adopt(Returning(of_one_size))
    network = adopt(Returning(of_one_size), check=False)
    assert network(torch.zeros(1, 3, 32, 48)).shape[1] == 3


def test_steps_under_autocast_are_refused():
    class Mixed(small.Plain):
        def high(self, low):
            with torch.autocast("cpu", torch.bfloat16):
                return super().high(low).float()

    with pytest.raises(
        ValueError, match=r"a region of its own \(wrap_with_autocast\), as autocast, enable_grad or cond make"
    ):
        adopt(Mixed())


def test_a_pickled_network_says_what_to_keep():
    with pytest.raises(TypeError, match=r"got pickled, which its traces can't be; keep its state_dict\(\)"):
        pickle.dumps(adopt(small.Plain()))


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
