"""Reads an exported program as a `Traced` model without operators that write in place or do nothing. For
`lowlat.adoption.tracing`."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from lowlat.adoption.traced import Size, Traced, shape

_aten = torch.ops.aten
_IDENTITIES = {
    _aten.dropout.default, _aten.dropout_.default, _aten.feature_dropout.default, _aten.feature_dropout_.default,
    _aten.alias.default, _aten.detach.default, _aten.lift_fresh_copy.default, _aten.clone.default,
    _aten.contiguous.default,
}  # fmt: skip
"""Operators that change no number of a network in eval mode."""
_VIEWS = {_aten.view.default, _aten._unsafe_view.default}
_STRIDED = {_aten.conv2d.default, _aten.convolution.default, _aten.max_pool2d.default}


def read(program: torch.export.ExportedProgram, names: list[str]) -> Traced:
    """Read an exported program as a `Traced` model. In-place operators are replaced and those that do nothing are left
    out; what depends on neither the frame nor a weight, such as coordinates, is computed."""
    signature, reader = program.graph_signature, _Reader()
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    image = None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            key = named.get(node.name)
            # A buffer that the model keeps out of its state is a constant to the program, under its own name.
            if key is not None:
                reader.attributes[reader.placeholder(node)] = key.removeprefix("model.")
            elif node.name in lifted:
                reader.fixed[node] = program.constants[lifted[node.name]].detach().clone()
            else:
                image = reader.placeholder(node)
        elif node.op == "get_attr":
            reader.fixed[node] = operator.attrgetter(node.target)(program.graph_module).detach().clone()
        elif node.op == "call_function":
            reader.call(node)
        else:
            (results,) = node.args
    user = results[-len(signature.user_outputs) :] if signature.user_outputs else results
    scores, *outputs = map(reader.copied, user)
    reader.graph.output(scores)
    outputs = {name: node for name, node in zip(names, outputs, strict=True) if node.op == "call_function"}
    strides = _strides(reader.graph, image)
    return Traced(reader.graph, image, scores, outputs, reader.attributes, reader.constants, strides)


class _Reader:
    """Copies a program's nodes one by one.

    Attributes:
        fixed: the results of the nodes that depend on neither the frame nor a weight.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.attributes: dict[fx.Node, str] = {}
        self.constants: dict[fx.Node, Tensor] = {}
        self.fixed: dict[fx.Node, Any] = {}
        self._copies: dict[fx.Node, fx.Node] = {}

    def placeholder(self, node: fx.Node) -> fx.Node:
        """Make a placeholder that takes the place of a node."""
        self._copies[node] = made = self.graph.placeholder(node.name)
        made.meta["val"] = node.meta["val"]
        return made

    def copied(self, node: fx.Node) -> fx.Node:
        """Return the copy of a node; for a fixed node, a placeholder for a constant."""
        if node not in self._copies:
            self.constants[self.placeholder(node)] = self.fixed[node]
        return self._copies[node]

    def call(self, node: fx.Node) -> None:
        """Copy an operator, or compute its result if that is fixed."""
        target = node.target
        if "_assert" in str(target) or "_guard" in str(target):
            return
        if target in _IDENTITIES and node.args[0] not in self.fixed:
            self._copies[node] = self._copies[node.args[0]]
            return
        if _in_place(node):
            target = _out_of_place(target)
        elif target in _VIEWS:
            # A view of the traced tensor need not exist for a tensor of another layout.
            target = _aten.reshape.default
        if all(before in self.fixed for before in node.all_input_nodes) and _repeatable(target):
            args, kwargs = map_arg((node.args, node.kwargs), self.fixed.__getitem__)
            self.fixed[node] = target(*args, **kwargs)
            return
        self._copies[node] = made = self.graph.node_copy(node, self.copied)
        made.target = target


def _repeatable(target: Any) -> bool:
    """Whether an operator returns the same each time that it is given the same."""
    if isinstance(target, torch._ops.OpOverload):
        return torch.Tag.nondeterministic_seeded not in target.tags
    return target is operator.getitem


def _strides(graph: fx.Graph, image: fx.Node) -> dict[Size, int]:
    """Return the pixels a side of a position, for the sizes that strided convolutions and pools lead to."""
    found = {shape(image)[-2:]: 1}
    for node in graph.nodes:
        if node.op != "call_function" or len(shape(node)) != 4:
            continue
        tiled = node.target is _aten.avg_pool2d.default and (len(node.args) < 3 or node.args[1] == node.args[2])
        if node.target not in _STRIDED and not tiled:
            continue
        before, after = shape(node.args[0])[-2:], shape(node)[-2:]
        if before in found and after not in found and min(after) > 0:
            found[after] = found[before] * max(1, round(before[0] / after[0]))
    return found


def _in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def writes_through_views(graph: fx.Graph) -> bool:
    """Whether an operator writes into memory that other nodes name too. Then only `torch.export`'s own rewriting, which
    is slow, can do without the writing."""
    places = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "call_function" or not _in_place(node):
            continue
        written = node.args[0]
        if not isinstance(written, fx.Node) or written.op != "call_function" or _is_view(written):
            return True
        if any(_is_view(user) for user in written.users) or _out_of_place(node.target) is None:
            return True
        if any(places[user] > places[node] for user in written.users):
            return True
    return False


def _is_view(node: fx.Node) -> bool:
    target = node.target
    return (
        isinstance(target, torch._ops.OpOverload)
        and not target._schema.is_mutable
        and any(part.alias_info is not None for part in target._schema.returns)
        or target is operator.getitem
        or target in (_aten.reshape.default, _aten.flatten.using_ints, _aten.contiguous.default, _aten.to.dtype)
    )


def _out_of_place(target: Any) -> Any:
    """Return the operator that makes a new tensor instead of writing in place; None if there is none."""
    packet = getattr(_aten, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
    return getattr(packet, target._overloadname, None) if packet is not None else None
