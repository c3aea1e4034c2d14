"""Pieces of a traced model as Python functions that look up the weights in whatever copy of it runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lowlat.adoption.traced import Size, Traced, shape, tensor_of

_aten = torch.ops.aten


@dataclass(frozen=True)
class Fold:
    """A batch norm that the convolution before it can take over, by the names of modules and tensors in the model."""

    conv: str
    mean: str
    variance: str
    weight: str | None
    bias: str | None
    eps: float

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Give the convolution the weights of both."""
        conv = model.get_submodule(self.conv)
        mean, variance, weight, bias = (
            None if name is None else tensor_of(model, name)
            for name in (self.mean, self.variance, self.weight, self.bias)
        )
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, self.eps, weight, bias)


class Fragment:
    """A piece of a traced model: ``fragment(network, *given)`` returns the tensors that are wanted, as a tuple.

    Parameters and buffers are those of ``network.model`` at the time of the call, so that copies of a network can share
    a fragment. Types and devices that the traced model names become the network's own.

    Attributes:
        code: the function as text.
        constants: further tensors that it reads.
    """

    def __init__(self, code: str, names: dict[str, Any], constants: tuple[Tensor, ...]) -> None:
        self.code, self.constants = code, constants
        space = dict(names)
        exec(compile(code, "<adopted network>", "exec"), space)
        self._function = space["forward"]

    def __call__(self, network: Any, *given: Tensor) -> tuple[Tensor, ...]:
        if self.constants:
            given = (*given, *network.constants(self))
        return self._function(network, *given)

    def __deepcopy__(self, memo: dict) -> Fragment:
        return self


class Writer:
    """Writes fragments of one traced model.

    Args:
        traced: the traced model.
        model: the model that was traced, which shows which convolutions are plain modules.
        folds: batch norms to leave out, because their convolutions have taken them over.
    """

    def __init__(self, traced: Traced, model: nn.Module, folds: dict[fx.Node, Fold] | None = None) -> None:
        self._traced, self._model, self._folds = traced, model, folds or {}

    def write(
        self, given: Sequence[fx.Node], wanted: Sequence[fx.Node], *, given_map: Fit | None = None,
        wanted_map: Fit | None = None,
    ) -> Fragment:  # fmt: skip
        """Write the function that makes ``wanted`` from ``given``.

        Args:
            given_map: how the first of ``given`` has been made a map, which is undone here.
            wanted_map: how the first of ``wanted`` is made a map.
        """
        graph = fx.Graph()
        self._graph = graph
        made: dict[fx.Node, fx.Node] = {}
        for index, node in enumerate(given):
            made[node] = graph.placeholder(f"given{index}")
        needed, waiting = set(), [node for node in wanted if node not in made]
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting.extend(before for before in node.all_input_nodes if before not in made)
        constants = [node for node in self._traced.constants if node in needed]
        for index, node in enumerate(constants):
            made[node] = graph.placeholder(f"constant{index}")
        if given_map is not None:
            made[given[0]] = given_map.undo(graph, made[given[0]])
        for node in self._traced.graph.nodes:
            if node in needed and node not in made and node not in self._traced.attributes:
                made[node] = self._emit(node, made)
        results = [made[node] for node in wanted]
        if wanted_map is not None:
            results[0] = wanted_map.make(graph, results[0])
        graph.output(tuple(results))
        written = graph.python_code("self")
        tensors = tuple(self._traced.constants[node] for node in constants)
        return Fragment(written.src, written.globals, tensors)

    def _emit(self, node: fx.Node, made: dict[fx.Node, fx.Node]) -> fx.Node:
        if node in self._folds:
            return made[node.args[0]]
        conv = module_of(node, self._traced, self._model)
        if conv is not None:
            return self._graph.call_module(f"model.{conv}", (made[node.args[0]],))

        def copied(before: fx.Node) -> fx.Node:
            if before not in made:
                made[before] = self._graph.get_attr(f"model.{self._traced.attributes[before]}")
            return made[before]

        copy = self._graph.node_copy(node, copied)
        with self._graph.inserting_before(copy):
            copy.args, copy.kwargs = map_aggregate((copy.args, copy.kwargs), self._own)
        return copy

    def _own(self, value: Any) -> Any:
        """Replace a device or float type of the traced model by the network's own."""
        if isinstance(value, torch.device):
            return self._graph.get_attr("mean.device")
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return self._graph.get_attr("mean.dtype")
        return value


def module_of(node: fx.Node, traced: Traced, model: nn.Module) -> str | None:
    """Return the name of the plain convolution module that an operator is a call of, since the module can be made
    faster than the operator (`lowlat.networks.layers.Pointwise`); None if there is none."""
    if node.target is not _aten.conv2d.default:
        return None
    image, weight, *rest = (*node.args, *[None] * 7)[:7]
    name = traced.attributes.get(weight, "")
    if not name.endswith(".weight"):
        return None
    name = name.removesuffix(".weight")
    conv = model.get_submodule(name)
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    bias, stride, padding, dilation, groups = rest
    if (bias is None) != (conv.bias is None) or (bias is not None and traced.attributes.get(bias) != f"{name}.bias"):
        return None
    called = (_pair(stride, 1), _pair(padding, 0), _pair(dilation, 1), groups or 1)
    return name if called == (conv.stride, conv.padding, conv.dilation, conv.groups) else None


def _pair(value: Any, default: int) -> tuple[int, int]:
    found = tuple(value) if value else (default,)
    return found * 2 if len(found) == 1 else found


def find_folds(traced: Traced, model: nn.Module, kept: set[fx.Node]) -> dict[fx.Node, Fold]:
    """Return the batch norms that a convolution can take over, by their nodes, except those whose convolution's own
    result is in ``kept``."""
    readers: dict[str, int] = {}
    for node in traced.order():
        for before in node.all_input_nodes:
            if before in traced.attributes:
                readers[traced.attributes[before]] = readers.get(traced.attributes[before], 0) + 1
    found = {}
    for node in traced.order():
        if node.target is not _aten.batch_norm.default:
            continue
        conv, weight, bias, mean, variance, training, _, eps = node.args[:8]
        if conv.op != "call_function" or len(conv.users) != 1 or conv in kept or training:
            continue
        name = module_of(conv, traced, model)
        tensors = [None if one is None else traced.attributes.get(one, "") for one in (mean, variance, weight, bias)]
        if name is None or readers[f"{name}.weight"] != 1 or "" in tensors or None in tensors[:2]:
            continue
        found[node] = Fold(name, *tensors, eps)
    return found


@dataclass(frozen=True)
class Fit:
    """How a tensor of the model is made a map ``(1, C, h, w)`` that the fast track reads, and turned back.

    Args:
        grid: height and width of its positions.
        prefix: for tokens ``(1, T, C)``, how many precede those of the positions; None for a map.
        fold: how many positions a side become channels of one.
        last: whether its channels are the last dimension, for a map ``(1, h, w, C)``.
    """

    grid: Size
    prefix: int | None = None
    fold: int = 1
    last: bool = False

    @classmethod
    def of(cls, traced: Traced, node: fx.Node, fold: int = 1) -> Fit:
        """Find out how a node of a traced model is made a map."""
        grid, dims = traced.grid(node), shape(node)
        if len(dims) == 3:
            return cls(grid, dims[1] - grid[0] * grid[1], fold)
        return cls(grid, None, fold, traced.channels(node) == 3)

    @property
    def size(self) -> Size:
        """The height and width of the map."""
        return self.grid[0] // self.fold, self.grid[1] // self.fold

    @property
    def plain(self) -> bool:
        """Whether the map is the tensor itself."""
        return self.prefix is None and self.fold == 1 and not self.last

    def make(self, graph: fx.Graph, value: fx.Node) -> fx.Node:
        """Write the steps that make the map."""
        if self.prefix is not None:
            if self.prefix:
                value = graph.call_function(_aten.slice.Tensor, (value, 1, self.prefix, self._end))
            value = graph.call_function(_aten.transpose.int, (value, 1, 2))
            value = graph.call_function(_aten.unflatten.int, (value, 2, list(self.grid)))
        if self.last:
            value = graph.call_function(_aten.permute.default, (value, [0, 3, 1, 2]))
        if self.fold > 1:
            value = graph.call_function(_aten.pixel_unshuffle.default, (value, self.fold))
        return value

    def undo(self, graph: fx.Graph, value: fx.Node) -> fx.Node:
        """Write the steps back; tokens before those of the positions become zero."""
        if self.fold > 1:
            value = graph.call_function(_aten.pixel_shuffle.default, (value, self.fold))
        if self.last:
            value = graph.call_function(_aten.permute.default, (value, [0, 2, 3, 1]))
        if self.prefix is not None:
            value = graph.call_function(_aten.flatten.using_ints, (value, 2))
            if self.prefix:
                value = graph.call_function(_aten.constant_pad_nd.default, (value, [self.prefix, 0]))
            value = graph.call_function(_aten.transpose.int, (value, 1, 2))
        return value

    @property
    def _end(self) -> int:
        return self.prefix + self.grid[0] * self.grid[1]
