"""Checks whether an adopted network's parts give the model's scores, and finds the module that differs if they
don't."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowlat.adoption.fragment import Writer
from lowlat.adoption.network import AdoptedNetwork
from lowlat.adoption.traced import Size
from lowlat.adoption.tracing import trace
from lowlat.adoption.watching import scores_of, watching
from lowlat.classes import Classes

TOLERANCE = 1e-5
"""The largest allowed difference of scores, over the largest score."""


def check_module(who: str, model: nn.Module) -> nn.Module:
    """Return the model to cut, in eval mode; of a compiled model, the module within it. Raises TypeError if it is no
    module, or a program without modules, ValueError for weights that a fast track in float32 can't go with."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{who}: expected a torch.nn.Module, got {type(model).__name__}"
            f"{'; or give lower, higher, classify' if who == 'adopt' else ''}"
        )
    model = getattr(model, "_orig_mod", model)
    try:
        program = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
        model.eval()
    except NotImplementedError:
        # A program of `torch.export` raises this.
        program = True
    if program:
        raise TypeError(
            f"{who}: expected a model of Python modules, got a program of torch.jit or torch.export, whose modules are "
            "gone; give the model that it was made from"
        )
    check_weights(who, model)
    return model


def check_weights(who: str, model: nn.Module) -> None:
    """Raise ValueError for weights that a fast track in float32 can't go with."""
    for name, weight in model.named_parameters():
        if weight.is_meta or weight.is_floating_point() and weight.dtype != torch.float32:
            got = "one on no device (meta)" if weight.is_meta else str(weight.dtype).removeprefix("torch.")
            raise ValueError(
                f"{who}: expected a model with weights of float32, got {got}, {name!r}; "
                f"{'load its weights' if weight.is_meta else 'give model.float()'} (a run chooses its own precision)"
            )


def check_example(who: str, example: Tensor) -> Size:
    """Return the size of an example; TypeError or ValueError if it is no frame."""
    if not isinstance(example, Tensor):
        raise TypeError(f"{who}: expected example as a tensor (1, 3, H, W), got {type(example).__name__}")
    if example.ndim != 4 or example.shape[1] != 3 or min(example.shape[-2:]) < 1:
        raise ValueError(
            f"{who}: expected example as a frame (1, 3, H, W), got {tuple(example.shape)}; "
            "torch.zeros(1, 3, 360, 480) will do"
        )
    return tuple(example.shape[-2:])


def check_classes(found: int, legend: Classes) -> None:
    """Raise ValueError if a model's scores are of another number of classes than those named, or of a single class."""
    if found == 1:
        raise ValueError(
            "adopt: expected scores of two classes or more, the highest of which is a pixel's label, got one, as a "
            "sigmoid reads it; wrap the model in a module that returns torch.cat((torch.zeros_like(score), score), 1)"
        )
    if found != len(legend):
        raise ValueError(
            f"adopt: expected classes for the model's {found} scores, got {len(legend)}: {', '.join(legend.names[:4])}"
            f"{', ...' if len(legend) > 4 else ''}; name {found}, or leave the names out with classes={found}"
        )


@torch.no_grad()
def check_parts(
    network: AdoptedNetwork, whole: nn.Module | None, sizes: tuple[Size, ...], output: str | int | None
) -> None:
    """Run a network's parts in sequence on random frames, beside the whole model if there is one.

    Raises:
        ValueError: the parts give other scores, or the model gives other scores each time. It names the first module
            that does.
    """
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        image = torch.randn(1, 3, *size, generator=generator).to(network.mean)
        try:
            scores = network(image)
        except ValueError as error:
            if size is sizes[0]:
                raise
            raise ValueError(
                "adopt: expected a model that takes frames of several sizes, since those of a video keep their "
                f"aspect, got one that takes {sizes[0][1]}x{sizes[0][0]} but not {size[1]}x{size[0]}: {error}; with "
                "check=False it runs on frames of the example's aspect alone"
            ) from error
        if whole is None:
            continue
        first = _modules(whole, image, output)
        by_hand = not network.plans.of_frames(size).code
        if network.plans.of_frames(size).upsampled or by_hand and first[""].shape[-2:] == size != scores.shape[-2:]:
            # A classifier given by hand is given no size to upsample its scores to.
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
        if not first[""].isfinite().all():
            # A module that gives minus infinity on purpose, as masks are made of, is not to blame for it.
            blamed = next((name for name, tensor in first.items() if tensor.isnan().any()), "")
            raise ValueError(
                f"adopt: expected finite scores of a frame of random numbers, got NaN or infinity, first in "
                f"{_called(blamed)}; load weights that are trained"
            )
        if size is sizes[-1] or differ(scores, first[""]):
            again = _modules(whole, image, output)
            fickle = [name for name in first if differ(first[name], again[name])]
            if fickle:
                raise ValueError(
                    "adopt: expected a model that gives the same frame the same scores, got another result from "
                    f"{_called(fickle[0])} each time; switch off what is random or counts its calls, or give its parts "
                    "by hand"
                )
        if differ(scores, first[""]):
            height, width = size
            if by_hand:
                blamed, mend = _first_by_hand(network, image, first), "have the three do all that its forward does"
            else:
                blamed = _first_differing(whole, image, output, first)
                mend = "give its parts by hand: lowlat.adopt(lower=..., higher=..., classify=...)"
            raise ValueError(
                f"adopt: expected the parts to give the model's scores for frames of {width}x{height} to "
                f"{TOLERANCE:g}, got others, first in {_called(blamed)}; {mend}"
            )


def _called(name: str) -> str:
    return f"the module {name!r}" if name else "the model's own forward"


def differ(found: Tensor, expected: Tensor) -> bool:
    """Whether two tensors differ by more than `TOLERANCE` of the largest number, or by NaN in one of them alone."""
    if found.shape != expected.shape:
        return True
    largest = expected.abs().max().clamp(min=1e-12)
    return not bool(((found - expected).abs().max() <= TOLERANCE * largest).item())


def _modules(model: nn.Module, image: Tensor, output: str | int | None) -> dict[str, Tensor]:
    """Return what each module gives for a frame, in order, with the model's scores last under the empty name."""
    seen: dict[str, Tensor] = {}
    with watching(model, seen):
        # A copy: some models normalise what they are given in place.
        scores = scores_of(model(image.clone()), output, "adopt")
    return {**seen, "": scores}


def _first_differing(model: nn.Module, image: Tensor, output: str | int | None, expected: dict[str, Tensor]) -> str:
    """Return the first module whose result differs in the traced model; the empty name for the model itself."""
    traced = trace(model, tuple(image.shape[-2:]), output)
    names = [name for name in traced.outputs if name in expected]
    fragment = Writer(traced, model).write([traced.image], [traced.outputs[name] for name in names])
    found = fragment(_Holder(model, image), image)
    return next((n for n, tensor in zip(names, found, strict=True) if differ(tensor, expected[n])), "")


def _first_by_hand(network: AdoptedNetwork, image: Tensor, expected: dict[str, Tensor]) -> str:
    """Return the first module whose result differs in parts given by hand, or that they leave out; the empty name if
    the difference lies between modules."""
    seen: dict[str, Tensor] = {}
    with watching(network.model, seen):
        network(image.clone())
    layers = {name for name, module in network.model.named_modules() if not any(True for _ in module.children())}
    for name, tensor in expected.items():
        if name and (differ(seen[name], tensor) if name in seen else name in layers):
            return name
    return ""


class _Holder:
    """Stands for a network where a fragment is run on a model alone."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        self.model, self.mean = model, image

    def constants(self, fragment: object) -> tuple[Tensor, ...]:
        return fragment.constants
