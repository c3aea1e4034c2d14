"""`lowlat.adopt` makes a network that somebody already has low-latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lowlat.adoption.by_hand import parts_by_hand
from lowlat.adoption.checks import check_classes, check_example, check_module, check_parts
from lowlat.adoption.cutting import Plan, named_node, plan, propagated_stride
from lowlat.adoption.network import AdoptedNetwork, Plans
from lowlat.adoption.traced import Size, Traced
from lowlat.adoption.tracing import trace
from lowlat.classes import Classes
from lowlat.models import IMAGENET


def adopt(
    model: nn.Module | None = None,
    *,
    split: str | None = None,
    features: str | None = None,
    example: Tensor,
    classes: Sequence[str] | Classes | int,
    mean: Sequence[float] = IMAGENET["mean"],
    std: Sequence[float] = IMAGENET["std"],
    output: str | int | None = None,
    lower: Callable | None = None,
    higher: Callable | Sequence[Callable] | None = None,
    classify: Callable | None = None,
    multiple: int | None = None,
    reduced: int = 64,
    fused: int = 64,
    check: bool = True,
) -> AdoptedNetwork:
    """Make a segmentation network low-latency: cut it in two, and give it an untrained fast track that fits.

    The model is cut by `torch.export`, for each size of frames when that size is first seen, or by hand::

        network = lowlat.adopt(model, split="backbone.layer3.2", features="classifier.3",
                               example=torch.zeros(1, 3, 360, 480), classes=["road", ...])
        network = lowlat.adopt(lower=stem, higher=[body, neck], classify=head, example=..., classes=...)

    `lowlat train distill` teaches the fast track from video without labels. A function that returns the network, say
    ``network`` in ``mynet.py``, gives it the name ``mynet:network``, by which every command knows it, and the files of
    weights that they write. The model is put in eval mode and shared, not copied.

    Args:
        model: takes normalised RGB ``(N, 3, H, W)``, returns scores ``(N, classes, h, w)``; its weights are float32.
        split: the module after which S_l ends; its result is F_l, which the fast track reads. `lowlat.split_points`
            lists the modules to choose from.
        features: the module whose result is F_h, which is propagated; what follows it is the classifier.
        example: a frame ``(1, 3, H, W)`` of the size that the network is to work at; its numbers don't matter.
        classes: the classes' names, a `lowlat.Classes`, or how many there are.
        mean, std: normalisation of RGB in [0, 1], per channel; by default ImageNet's.
        output: the scores' name or place in what the model returns; ``"out"`` and ``"logits"`` are found.
        lower: S_l by hand: ``(1, 3, H, W)`` -> F_l ``(1, C_l, h, w)``, or a tuple of F_l and what else S_h needs.
        higher: S_h by hand: takes what `lower` returns, and returns F_h ``(1, C_h, h, w)``; or several steps that can
            take turns with frames, each of which takes the result of the one before.
        classify: F_h -> scores, by hand. The three are modules, methods of one module, or functions of (model, input).
        multiple: the sides of the working size are multiples of so many pixels; by default the model's largest stride.
        reduced, fused: channels of the reduced F_l for each of its readers, and within fusion.
        check: whether to run the parts in sequence beside the whole model on random frames of two sizes.

    Raises:
        ValueError: wrong arguments, a model that can't be cut like that, parts whose scores differ from the model's by
            more than 1e-5 of the largest, or another number of classes than the model's.
        TypeError: the model is no module, or the example no tensor.
    """
    by_hand = [part is not None for part in (lower, higher, classify)]
    if any(by_hand) and not all(by_hand):
        raise ValueError(
            "adopt: expected lower, higher and classify together, got some of them; give all three, or a model with "
            "split and features"
        )
    legend, size = _legend(classes), check_example("adopt", example)
    mean, std = _normalisation("mean", mean), _normalisation("std", std)
    for name, number in (("multiple", 1 if multiple is None else multiple), ("reduced", reduced), ("fused", fused)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"adopt: expected {name} as a whole number from 1 up, got {number!r}")
    if by_hand[0]:
        if split is not None or features is not None:
            raise ValueError("adopt: expected no split or features beside lower, higher and classify; leave them out")
        model, whole, make = parts_by_hand(model, lower, higher, classify)
        first = make(size, None)
        strides = [max(1, round(size[0] / shape[-2])) for shape in (first.low, first.high)]
    else:
        model = check_module("adopt", model)
        if split is None or features is None:
            raise ValueError(
                "adopt: expected split and features, got not both; lowlat.split_points(model, example) shows what "
                "there is to choose from"
            )
        make = tracer = _Tracer(model, split, features, output)
        strides, whole = tracer.strides(size), model
    if multiple is None:
        multiple = math.lcm(*strides)
    if not by_hand[0]:
        tracer.multiple = multiple
    size = _rounded(size, multiple)
    plans = Plans(make, multiple)
    check_classes(plans.of_frames(size).classes, legend)
    cut = "" if by_hand[0] else f"split={split!r}, features={features!r}"
    network = AdoptedNetwork(model, plans, size, legend, mean=mean, std=std, reduced=reduced, fused=fused, cut=cut)
    network.multiple, network.pixels = multiple, size[0] * size[1]
    network.to(next(network.model.parameters(), network.mean).device)
    network.untrained = ("reduction", "predictor", "adapt", "fusion", "selector")
    network.eval()
    if check:
        other = _rounded((size[0] * 3 // 4, size[1] // 2), multiple, least=2)
        check_parts(network, whole, (size, other), output)
    return network


class _Tracer:
    """Makes a model's parts for a size of frames, whose sides are multiples of ``multiple``."""

    multiple = 1

    def __init__(self, model: nn.Module, split: str, features: str, output: str | int | None) -> None:
        self._model, self._split, self._features, self._output = model, split, features, output
        self._last: Traced | None = None

    def traced(self, size: Size) -> Traced:
        """Return the model traced at that size; the last one is kept."""
        if self._last is None or self._last.size != size:
            self._last = trace(self._model, size, self._output)
        return self._last

    def strides(self, size: Size) -> list[int]:
        """Return what the sides of a size should be multiples of: each stride of the model, and that of what is
        propagated."""
        traced = self.traced(size)
        features = named_node(traced, self._features, self._model, "features")
        return [*traced.strides.values(), propagated_stride(traced, features)]

    def __call__(self, size: Size, links: int | None) -> Plan:
        made = plan(self.traced(size), self._split, self._features, self._model, self.multiple, links)
        self._last = None if links is not None else self._last
        return made


def _legend(classes: Sequence[str] | Classes | int) -> Classes:
    names = classes.names if isinstance(classes, Classes) else classes
    if not isinstance(names, Sequence) or isinstance(names, str):
        names = ()
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise ValueError(f"adopt: expected a name of its own for every class, got {twice[0]!r} twice; rename one")
    if isinstance(classes, Classes):
        return classes
    if isinstance(classes, int) and not isinstance(classes, bool) and classes > 0:
        return Classes.numbered(classes)
    if names:
        return Classes(tuple(names), Classes.numbered(len(classes)).palette)
    raise ValueError(f"adopt: expected classes as names, a lowlat.Classes or how many there are, got {classes!r}")


def _normalisation(name: str, numbers: Sequence[float]) -> tuple[float, ...]:
    """Return three numbers for RGB in [0, 1]; ValueError for any others, also for those for RGB in 0 to 255."""
    try:
        found = tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        found = ()
    inside = all(-1 <= number <= 1 if name == "mean" else 0 < number <= 1 for number in found)
    if len(found) != 3 or not inside:
        raise ValueError(
            f"adopt: expected {name} as three numbers for RGB in [0, 1], {'-1 to 1' if name == 'mean' else 'up to 1'}, "
            f"got {numbers!r}; divide by 255 those for RGB in 0 to 255"
        )
    return found


def _rounded(size: Size, multiple: int, least: int = 1) -> Size:
    """Return the nearest size whose sides are multiples of ``multiple`` pixels, at least ``least`` times."""
    return tuple(multiple * max(least, round(side / multiple)) for side in size)
