"""`Traced`: a network made elsewhere as a graph of operators, at one size of frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, fx, nn

_aten = torch.ops.aten
_CHANNELS_FIRST = {
    _aten.conv2d.default, _aten.convolution.default, _aten.conv_transpose2d.input, _aten.batch_norm.default,
    _aten.group_norm.default, _aten.max_pool2d.default, _aten.avg_pool2d.default, _aten.einsum.default,
}  # fmt: skip
"""Operators whose results have their channels in dimension 1."""
_CHANNELS_LAST = {_aten.linear.default, _aten.layer_norm.default}
"""Operators whose results have their channels in the last dimension."""

Size = tuple[int, int]
"""Height and width, in pixels or positions."""

MOST_PREFIX = 16
"""The most tokens before those of the positions: a class token and registers."""


@dataclass(frozen=True)
class Traced:
    """A model at one size of frames: operators in order, no control flow, no operator that writes in place.

    Attributes:
        graph: its placeholders are the image and what `attributes` and `constants` list; everything else is an operator
            of ATen.
        image: the node of the normalised frame, ``(1, 3, H, W)``.
        scores: the node of the model's scores, ``(1, classes, h, w)``.
        outputs: the result of each module by its name, in the order in which they end, the last one if it runs several
            times; only maps ``(1, C, h, w)`` or ``(1, h, w, C)`` and tokens ``(1, T, C)``.
        attributes: the parameters and buffers that placeholders stand for, by their names in the model.
        constants: the tensors that other placeholders stand for.
        strides: pixels a side of a position, by the size of the map.
    """

    graph: fx.Graph
    image: fx.Node
    scores: fx.Node
    outputs: dict[str, fx.Node]
    attributes: dict[fx.Node, str]
    constants: dict[fx.Node, Tensor]
    strides: dict[Size, int]
    _channels: dict[fx.Node, int] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> Size:
        return shape(self.image)[-2:]

    def order(self) -> list[fx.Node]:
        """Return the operators, each after those that it reads."""
        return [node for node in self.graph.nodes if node.op == "call_function"]

    @cached_property
    def behind_image(self) -> set[fx.Node]:
        """The operators whose result depends on the frame. The others compute with weights alone."""
        found = {self.image}
        for node in self.order():
            if found.intersection(node.all_input_nodes):
                found.add(node)
        return found - {self.image}

    def ancestors(self, node: fx.Node) -> set[fx.Node]:
        """Return everything that a node is made from, itself included."""
        found, waiting = set(), [node]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(one.all_input_nodes)
        return found

    def channels(self, node: fx.Node) -> int:
        """Return the dimension of a node's channels: 1 for a map ``(1, C, h, w)``, the last one for tokens ``(1, T,
        C)`` and a map ``(1, h, w, C)``. The operators that made it decide, since shapes may fit both."""
        chain, known = [node], self._channels
        while (last := chain[-1]) not in known:
            read = [one for one in last.all_input_nodes if one in self.behind_image and shape(one)]
            if last.target in _CHANNELS_FIRST | _CHANNELS_LAST or not read:
                known[last] = len(shape(last)) - 1 if last.target in _CHANNELS_LAST else 1
            else:
                chain.append(read[0])
        for before, one in pairwise(reversed(chain)):
            known[one] = _channels_behind(one, before, known[before])
        return known[node]

    def grid(self, node: fx.Node) -> Size | None:
        """Return the height and width of a node's positions; None if it has none, such as a vector of pooled
        features."""
        dims, channels = shape(node), self.channels(node)
        if len(dims) not in (3, 4) or dims[0] != 1 or channels not in (1, len(dims) - 1):
            return None
        if len(dims) == 4:
            sides = dims[2:] if channels == 1 else dims[1:3]
            return sides if min(sides) > 1 else None
        # Tokens have lost their size: it is that of the nearest map they were made from.
        for before in sorted(self.ancestors(node), key=self._places.__getitem__, reverse=True):
            sides = self.grid(before) if len(shape(before)) == 4 and channels == 2 else None
            if sides is not None and 0 <= dims[1] - sides[0] * sides[1] <= MOST_PREFIX:
                return sides
        return None

    @cached_property
    def _places(self) -> dict[fx.Node, int]:
        return {node: place for place, node in enumerate(self.graph.nodes)}

    def stride(self, node: fx.Node) -> int:
        """Return how many pixels a side a position of a node stands for."""
        grid = self.grid(node)
        return self.strides.get(grid) or max(1, round(self.size[0] / grid[0]))


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's tensor; empty if the node is no tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """Return a parameter or buffer by its dotted name."""
    owner, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(owner), leaf)


def _channels_behind(node: fx.Node, before: fx.Node, channels: int) -> int:
    """Return the dimension of a node's channels, given that of the node that it is made from."""
    old, new = shape(before), shape(node)
    if node.target is _aten.permute.default:
        return [dim % len(old) for dim in node.args[1]].index(channels)
    if node.target is _aten.transpose.int:
        swapped = [dim % len(old) for dim in node.args[1:3]]
        return swapped[1 - swapped.index(channels)] if channels in swapped else channels
    if len(old) == len(new):
        return channels
    # Folded or unfolded, they are still at the end or behind the number of frames.
    return len(new) - 1 if channels == len(old) - 1 and new[-1:] == old[-1:] else 1
