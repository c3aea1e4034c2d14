"""What the per-frame network learns from: the Lovász loss, degraded images, and what decays."""

import itertools

import pytest
import torch

from lowlat import models
from lowlat.lab.data.augment import degrade, paste, random_view
from lowlat.lab.data.dataset import LabelledImages, class_counts, rare_classes
from lowlat.lab.data.street import Street
from lowlat.lab.train import per_frame
from lowlat.lab.train.per_frame import lovasz_loss, parameter_groups, segmentation_loss, train_mode
from lowlat.lab.train.recipe import Recipe
from lowlat.lab.train.recipes import recipe_of


def jaccard_loss(labels, answers, label):
    """1 - IoU of one class, 0 where there is none of it."""
    both, either = ((labels == label) & (answers == label)).sum(), ((labels == label) | (answers == label)).sum()
    return 1 - both / either if either else torch.tensor(0.0)


def test_the_lovasz_loss_of_certain_answers_is_one_minus_their_iou():
    generator = torch.Generator().manual_seed(0)
    labels, answers = torch.randint(0, 3, (2, 40), generator=generator)
    found = lovasz_loss(torch.nn.functional.one_hot(answers, 3).float(), labels)
    torch.testing.assert_close(found, torch.stack([jaccard_loss(labels, answers, k) for k in range(3)]).mean())


def test_the_lovasz_loss_is_the_convex_extension():
    """It is the mean of 1 - IoU over levels drawn evenly from [0, 1], where those pixels count as wrong whose error
    exceeds the level (Lovász, "Submodular functions and convexity", 1983)."""
    torch.manual_seed(1)
    labels, errors = torch.tensor([0, 1, 1, 0, 1]), torch.rand(5).double()
    of_class_1 = torch.where(labels == 1, 1 - errors, errors)
    probabilities = torch.stack((1 - of_class_1, of_class_1), 1)
    levels = sorted([0.0, *errors.tolist(), 1.0])
    of_each = [
        sum(
            (high - low) * jaccard_loss(labels, torch.where(errors > (low + high) / 2, 1 - labels, labels), label)
            for low, high in itertools.pairwise(levels)
        )
        for label in range(2)
    ]
    torch.testing.assert_close(lovasz_loss(probabilities, labels), torch.stack(of_each).mean(), check_dtype=False)


def test_void_pixels_have_no_part_in_the_lovasz_loss():
    torch.manual_seed(2)
    # Some answers are right and some wrong: where every class is missed everywhere, more that is wrong costs no more.
    probabilities, labels = (3 * torch.randn(30, 3)).softmax(1), torch.randint(0, 3, (30,))
    more = torch.cat((probabilities, (3 * torch.randn(9, 3)).softmax(1))), torch.cat((labels, torch.full((9,), 3)))
    torch.testing.assert_close(lovasz_loss(*more), lovasz_loss(probabilities, labels))
    counted = lovasz_loss(more[0], torch.cat((labels, torch.zeros(9, dtype=torch.int64))))
    assert (counted - lovasz_loss(*more)).abs() > 1e-3
    nothing = probabilities.clone().requires_grad_()
    lovasz_loss(nothing, torch.full_like(labels, 3)).backward()
    assert torch.equal(nothing.grad, torch.zeros_like(nothing))


def test_a_class_that_is_not_there_has_no_part_in_the_lovasz_loss():
    torch.manual_seed(3)
    probabilities, labels = (3 * torch.randn(30, 2)).softmax(1), torch.randint(0, 2, (30,))
    found = lovasz_loss(torch.cat((probabilities, torch.zeros(30, 1)), 1), labels)
    torch.testing.assert_close(found, lovasz_loss(probabilities, labels))


def test_overlap_counts_beside_cross_entropy_without_the_class_weights():
    torch.manual_seed(2)
    scores, labels, weights = torch.randn(2, 3, 8, 12), torch.randint(0, 4, (2, 8, 12)), torch.tensor([0.5, 1.0, 2.0])
    plain, found = segmentation_loss(scores, labels, weights), segmentation_loss(scores, labels, weights, overlap=0.7)
    torch.testing.assert_close(found.weight, plain.weight)
    probabilities = (scores - weights.log().view(-1, 1, 1)).softmax(1)[..., 1::4, 1::4]
    wanted = 0.7 * lovasz_loss(probabilities.movedim(1, -1).flatten(0, 2), labels[:, 1::4, 1::4].flatten())
    torch.testing.assert_close((found.total - plain.total) / plain.weight, wanted)


def test_a_degraded_view_has_the_same_labels_and_other_colours():
    images = torch.randint(0, 256, (6, 3, 40, 56), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    labels = torch.zeros(6, 40, 56, dtype=torch.uint8)
    views = [
        random_view(images, labels, torch.Generator().manual_seed(4), degraded=degraded) for degraded in (False, True)
    ]
    (clean, targets), (found, same) = views
    assert torch.equal(targets, same) and found.shape == clean.shape and 0 <= found.min() and found.max() <= 255
    # The images are noise: the blurred ones vary less from pixel to pixel. Some are blurred and some are not.
    rough = [(view[..., 1:] - view[..., :-1]).abs().mean((1, 2, 3)) for view in (clean, found)]
    assert 0 < (rough[1] < 0.7 * rough[0]).sum() < 6


def test_degrading_draws_from_its_generator_alone():
    images = torch.rand(2, 3, 16, 24) * 255
    first, second = (degrade(images.clone(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, images)


def test_rare_things_are_pasted_with_their_labels():
    generator = torch.Generator().manual_seed(6)
    image, other = torch.rand(2, 3, 20, 30, generator=generator), 9 + torch.rand(2, 3, 20, 30, generator=generator)
    labels, others = torch.randint(0, 5, (2, 2, 20, 30), generator=generator)  # 4 is void
    rare, seen = torch.tensor([False, True, False, True]), set()
    for seed in range(12):
        view = image.clone(), labels.clone()
        paste(view, (other, others), rare, torch.Generator().manual_seed(seed))
        from_other = view[0][:, 0] > 5
        assert torch.equal(view[0], torch.where(from_other[:, None], other, image))
        assert torch.equal(view[1], torch.where(from_other, others, labels))
        pasted = tuple(others[from_other].unique().tolist())
        assert torch.equal(from_other, torch.isin(others, torch.tensor(pasted, dtype=torch.long))), "all of a class"
        seen.add(pasted)
    assert seen == {(), (1,), (3,), (1, 3)}, "each rare class in half of the views, and nothing else"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_training_pastes_onto_the_recipes_share_of_the_images(share, tmp_path, monkeypatch, one_thread):
    pasted = []
    monkeypatch.setattr(per_frame, "paste", lambda view, other, rare, generator: pasted.append((view, other, rare)))
    data = Street(seed=2, size=(48, 64), frames=9)
    recipe = Recipe(steps=2, batch=2, learning_rate=1e-4, workers=0, pasted=share)
    network = models.build("lite", classes=len(data.classes))
    per_frame.train_per_frame("base", network, data, tmp_path, recipe)
    assert len(pasted) == (4 if share else 0)
    for view, other, rare in pasted:
        assert not torch.equal(view[0], other[0]) and torch.equal(rare, rare_classes(data))


def test_classes_with_less_than_an_even_share_are_rare():
    data = Labels([[0, 0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1, 3, 3]])
    assert class_counts(data.maps, 3).tolist() == [8, 5, 1]
    assert rare_classes(data).tolist() == [False, False, True]


class Labels(LabelledImages):
    """A set of label maps of 3 classes; 3 is void."""

    split, classes, palette, videos = "train", ("a", "b", "c"), ((0, 0, 0),) * 3, ()

    def __init__(self, maps):
        self.maps = torch.tensor(maps, dtype=torch.uint8)[:, None]

    def __len__(self):
        return len(self.maps)

    def label(self, index):
        return self.maps[index]


def test_biases_and_norms_do_not_decay():
    network, recipe = models.build("lite"), recipe_of("lite", "base")
    train_mode(network, recipe.frozen)
    groups = parameter_groups(network, recipe)
    assert sum(len(group["params"]) for group in groups) == len({id(p) for group in groups for p in group["params"]})
    for group in groups:
        assert len({parameter.ndim > 1 for parameter in group["params"]}) == 1
        assert (group.get("weight_decay") == 0) == (group["params"][0].ndim == 1)


@pytest.mark.parametrize("smooth", [False, True])
def test_scores_of_one_position_cannot_comb_once_they_are_smooth(smooth):
    """A classifier that gives the upper scores of each position to one class and the lower ones to another."""
    network = models.build("lite", classes=2).eval()
    network.smooth = smooth
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([1.0, 1, -0.9, -0.9, 0, 0, 0, 0]))
        labels = network.classify(torch.zeros(1, 200, 6, 8)).argmax(1)[0]
    inner = labels[1:-1]
    alone = (inner != labels[:-2]) & (inner != labels[2:])
    assert alone.any() != smooth
