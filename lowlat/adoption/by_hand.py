"""A network's three parts given as callables, for networks that can't be traced."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lowlat.adoption.checks import check_weights
from lowlat.adoption.cutting import Plan
from lowlat.adoption.traced import Size

Part = Callable[[nn.Module, Any], Any]
"""A part as a function of the module that holds its weights, and its input."""


def parts_by_hand(
    model: nn.Module | None, lower: Callable, higher: Callable | Sequence[Callable], classify: Callable
) -> tuple[nn.Module, nn.Module | None, Callable[[Size, int | None], Plan]]:
    """Return the module that holds the weights of three callables; the whole model, if there is one; and the function
    that makes the parts for a size.

    Raises:
        TypeError: callables whose weights can't be found.
    """
    steps = list(higher) if isinstance(higher, (Sequence, nn.Sequential, nn.ModuleList)) else [higher]
    if not steps:
        raise ValueError("adopt: expected higher as a callable or several, got an empty sequence; give one")
    given = {"lower": lower, **{f"higher{number}": step for number, step in enumerate(steps)}, "classify": classify}
    owners = {id(getattr(part, "__self__", None)) for part in given.values()}
    holder, whole = model, model
    parts: list[Part] = list(given.values())
    if model is None:
        if all(isinstance(part, nn.Module) for part in parts):
            holder = nn.ModuleDict(given)
            parts = [partial(_of_holder, name) for name in given]
        elif all(isinstance(part, types.MethodType) and isinstance(part.__self__, nn.Module) for part in parts) and (
            len(owners) == 1
        ):
            holder = lower.__self__
            whole = None if type(holder).forward is nn.Module.forward else holder
            parts = [part.__func__ for part in parts]
        else:
            raise TypeError(
                "adopt: expected lower, higher and classify as modules or as methods of one module, got "
                f"{', '.join(type(part).__name__ for part in parts)}, whose weights nobody could move or save; give "
                "those, or functions of (model, input) beside the model"
            )
    elif any(isinstance(part, (nn.Module, types.MethodType)) for part in parts):
        raise TypeError(
            "adopt: expected lower, higher and classify as functions of (model, input) beside a model, got modules or "
            "methods; leave the model out"
        )
    check_weights("adopt", holder)
    holder.eval()
    first, *middle, last = parts

    def make(size: Size, links: int | None) -> Plan:
        shapes = _tried(holder, dict(zip(given, parts, strict=True)), size)
        made = [partial(_link, step, number == 0) for number, step in enumerate(middle)]
        return Plan(size, partial(_lower, first), made, partial(_classify, last), *shapes)

    return holder, whole, make


def _of_holder(name: str, holder: nn.ModuleDict, given: Any) -> Any:
    return holder[name](given)


def _lower(part: Part, network: Any, image: Tensor) -> tuple[Tensor, ...]:
    return _crossing(part(network.model, image))


def _link(part: Part, first: bool, network: Any, state: Any, start: Sequence[Tensor]) -> Any:
    return part(network.model, (start[0] if len(start) == 1 else tuple(start)) if first else state)


def _classify(part: Part, network: Any, high: Tensor) -> Tensor:
    return part(network.model, high)


def _crossing(found: Any) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else tuple(found)


@torch.no_grad()
def _tried(holder: nn.Module, parts: dict[str, Part], size: Size) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return the shapes of F_l and F_h for frames of ``size``, and the number of classes; ValueError if the parts don't
    fit."""
    weight = next((p for p in holder.parameters() if p.is_floating_point()), torch.empty(0))
    value: Any = torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device)
    maps = []
    for name, part in parts.items():
        given = ", ".join(str(tuple(tensor.shape)) for tensor in _crossing(value))
        try:
            value = part(holder, value)
        except Exception as error:
            raise ValueError(
                f"adopt: expected {name} to take what the part before gives, {given} for frames of "
                f"{size[1]}x{size[0]}, got {type(error).__name__}: {' '.join(str(error).split())[:300]}; have the "
                "parts agree"
            ) from error
        if name == "lower" or name == list(parts)[-2] or name == "classify":
            found = _crossing(value) if name == "lower" else (value,)
            if not all(isinstance(tensor, Tensor) for tensor in found) or found[0].ndim != 4:
                got = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in found]
                raise ValueError(f"adopt: expected a map (1, channels, h, w) from {name}, got {got[0]}; return one")
            maps.append(tuple(found[0].shape))
    low, high, scores = maps
    return low, high, scores[1]
