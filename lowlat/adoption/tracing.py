"""A network of anybody's as a graph of operators at one size of frames, by `torch.export`. For whoever cuts it."""

from __future__ import annotations

import copy
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lowlat.adoption.alone import alone

Size = tuple[int, int]
"""Height and width, in pixels or positions."""

_aten = torch.ops.aten
_IDENTITIES = {
    _aten.dropout.default, _aten.dropout_.default, _aten.feature_dropout.default, _aten.feature_dropout_.default,
    _aten.alias.default, _aten.detach.default, _aten.lift_fresh_copy.default, _aten.clone.default,
    _aten.contiguous.default,
}  # fmt: skip
"""Operators that change no number of a network in eval mode."""
_VIEWS = {_aten.view.default, _aten._unsafe_view.default}
_STRIDED = {_aten.conv2d.default, _aten.convolution.default, _aten.max_pool2d.default}
MOST_PREFIX = 16
"""Tokens before those of the positions: a class token and registers."""


@dataclass(frozen=True)
class Traced:
    """A model at one size of frames: operators in order, no control flow, no operator that writes in place.

    Attributes:
        graph: placeholders are the image and what `attributes` and `constants` say; the rest are operators of ATen.
        image: the normalised frame, ``(1, 3, H, W)``.
        scores: what the model says of the classes, ``(1, classes, h, w)``.
        outputs: what each module gives, by the module's name, in the order in which they end; the last time where one
            runs several times. Maps ``(1, C, h, w)`` and tokens ``(1, T, C)`` alone.
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

    @property
    def size(self) -> Size:
        return shape(self.image)[-2:]

    def order(self) -> list[fx.Node]:
        """The operators, each behind what it reads."""
        return [node for node in self.graph.nodes if node.op == "call_function"]

    def behind_image(self) -> set[fx.Node]:
        """The operators whose result depends on the frame. The others make numbers of the weights alone."""
        found = {self.image}
        for node in self.order():
            if found.intersection(node.all_input_nodes):
                found.add(node)
        return found - {self.image}

    def ancestors(self, node: fx.Node) -> set[fx.Node]:
        """Everything that a node is made from, itself among it."""
        found, waiting = set(), [node]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(one.all_input_nodes)
        return found

    def grid(self, node: fx.Node) -> Size | None:
        """Height and width of a node's positions; None where it has none, such as a vector of pooled features."""
        dims = shape(node)
        if len(dims) == 4:
            return dims[-2:] if min(dims[-2:]) > 1 else None
        # Tokens have lost their size: it is that of the nearest map they were made from.
        for before in sorted(self.ancestors(node), key=self._places.__getitem__, reverse=True):
            sides = shape(before)
            if len(sides) == 4 and sides[-2:] in self.strides and min(sides[-2:]) > 1:
                if 0 <= dims[1] - sides[-2] * sides[-1] <= MOST_PREFIX:
                    return sides[-2:]
        return None

    @property
    def _places(self) -> dict[fx.Node, int]:
        places = self.__dict__.get("_cached_places")
        if places is None:
            places = {node: place for place, node in enumerate(self.graph.nodes)}
            object.__setattr__(self, "_cached_places", places)
        return places

    def stride(self, node: fx.Node) -> int:
        """Pixels a side that a position of a node stands for."""
        grid = self.grid(node)
        return self.strides.get(grid) or max(1, round(self.size[0] / grid[0]))


def trace(model: nn.Module, size: Size, output: str | None = None, *, who: str = "adopt") -> Traced:
    """Trace a model, in eval mode, at one size.

    Args:
        model: takes normalised frames ``(1, 3, H, W)`` as its first argument.
        output: the name or the place of the scores among what it returns; see :func:`scores_of`.
        who: whose error it is.

    Raises:
        ValueError: the model can't run at that size, or decides by the numbers in a tensor.
    """
    names: list[str] = []
    model = _with_the_same_tensors(model)

    class Watched(nn.Module):
        """The model, and what each of its modules gives."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
            seen: dict[str, Tensor] = {}
            with watching(self.model, seen):
                scores = scores_of(self.model(image), output, who)
            names[:] = seen
            return scores, list(seen.values())

    training = {module: module.training for module in model.modules()}
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    example = torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device)
    try:
        # A size may be asked for the first time inside a run of inference.
        with (
            alone(),
            torch.inference_mode(False),
            torch.no_grad(),
            warnings.catch_warnings(),
            _unlogged(),
        ):
            warnings.simplefilter("ignore")
            program = torch.export.export(Watched().eval(), (example,), strict=False)
            if _writes_through_views(program.graph):
                program = program.run_decompositions({})
        _check_flat(program)
    except NoScores:
        raise
    except Exception as error:
        raise _untraceable(who, size, error) from error
    finally:
        for module, mode in training.items():
            module.training = mode
    return _read(program, names)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep torch from logging an error's fifty lines of traceback before it raises it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class NoScores(ValueError):
    """Raised where what a model returns holds no scores as they are asked for."""


def _with_the_same_tensors(model: nn.Module) -> nn.Module:
    """Modules of one's own around a model's tensors: a trace puts others in their places meanwhile, which nobody who
    runs the model shall see, nor what its forward keeps. The model itself where it can't be copied."""
    tensors = (*model.parameters(), *model.buffers())
    try:
        return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    except Exception:
        return model


def _check_flat(program: torch.export.ExportedProgram) -> None:
    """ValueError where steps of a model are a graph of their own, which can't be cut: its type is chosen within them,
    or which of them are taken."""
    for node in program.graph.nodes:
        if node.op == "get_attr" and not isinstance(operator.attrgetter(node.target)(program.graph_module), Tensor):
            user = next(iter(node.users), node)
            raise ValueError(
                f"a region of its own ({user.target}), as autocast or torch.cond make; do without in forward"
            )


def scores_of(output: Any, name: str | int | None, who: str) -> Tensor:
    """The scores ``(N, classes, h, w)`` in what a model returns: a tensor; or by name, ``"out"`` and ``"logits"`` where
    none is given, in a mapping; or by place, the first one where none is given, in a sequence.

    Raises:
        NoScores: they aren't there.
    """
    found = output
    if isinstance(output, Mapping):
        known = [name] if name is not None else ["out", "logits", *output]
        found = next((output[key] for key in known if key in output), None)
    elif isinstance(output, (tuple, list)):
        place = 0 if name is None else name
        found = output[place] if isinstance(place, int) and -len(output) <= place < len(output) else None
    if not isinstance(found, Tensor) or found.ndim != 4:
        got = list(output) if isinstance(output, Mapping) else "a tensor" if found is output else type(output).__name__
        shown = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise NoScores(
            f"{who}: expected scores (N, classes, h, w) from the model, got {got}{shown}; give their name as output=, "
            "or wrap the model in a module that returns them"
        )
    return found


class watching:
    """Keeps, while entered, a copy of what each module of a model gives; maps and tokens alone."""

    def __init__(self, model: nn.Module, seen: dict[str, Tensor]) -> None:
        self._model, self._seen = model, seen

    def __enter__(self) -> None:
        self._handles = [
            module.register_forward_hook(self._hook(name)) for name, module in self._model.named_modules() if name
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def keep(_module: nn.Module, _given: Any, output: Any) -> None:
            tensor = next(_tensors(output), None)
            if tensor is not None and tensor.ndim in (3, 4) and tensor.is_floating_point():
                # The last run of a module counts, and its place in the order.
                self._seen.pop(name, None)
                # A copy: an activation in place may write over it.
                self._seen[name] = tensor.clone()

        return keep


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _untraceable(who: str, size: Size, error: Exception) -> ValueError:
    height, width = size
    words = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    if "data-dependent" in words.lower() or "DataDependent" in kind or "UserError" in kind:
        return ValueError(
            f"{who}: expected a model whose steps depend on the frame's size alone, got one that decides by the "
            f"numbers in a tensor: {words}; give its parts by hand: lowlat.adopt(lower=..., higher=..., classify=...)"
        )
    return ValueError(
        f"{who}: expected a model that torch.export can trace for frames of {width}x{height}, got {kind}: {words}; "
        "give an example of a size that the model takes, or its parts by hand: lowlat.adopt(lower=..., higher=..., "
        "classify=...)"
    )


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor; empty for what is no tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def tensor_of(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer by its dotted name."""
    owner, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(owner), leaf)


def _in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _writes_through_views(graph: fx.Graph) -> bool:
    """Whether an operator writes into memory that other nodes name too: then it takes `torch.export`'s own rewriting,
    which is slow, to do without."""
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
    """The operator that gives a new tensor where this one writes in place; None where there is none."""
    packet = getattr(_aten, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
    return getattr(packet, target._overloadname, None) if packet is not None else None


def _read(program: torch.export.ExportedProgram, names: list[str]) -> Traced:
    """An exported program as a `Traced` model: in-place operators and those that do nothing are gone."""
    signature, graph = program.graph_signature, fx.Graph()
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    lifted = signature.inputs_to_lifted_tensor_constants
    attributes: dict[fx.Node, str] = {}
    constants: dict[fx.Node, Tensor] = {}
    copies: dict[fx.Node, fx.Node] = {}
    image = None
    for node in program.graph.nodes:
        if node.op == "placeholder":
            copies[node] = made = graph.placeholder(node.name)
            made.meta["val"] = node.meta["val"]
            key = named.get(node.name)
            # A buffer that the model keeps out of its state is a constant to the program, under its own name.
            if key is not None:
                attributes[made] = key.removeprefix("model.")
            elif node.name in lifted:
                constants[made] = program.constants[lifted[node.name]].detach().clone()
            else:
                image = made
        elif node.op == "get_attr":
            copies[node] = made = graph.placeholder(node.name)
            constants[made] = operator.attrgetter(node.target)(program.graph_module).detach().clone()
            made.meta["val"] = constants[made]
        elif node.op == "call_function":
            _copy(node, graph, copies)
        else:
            (results,) = node.args
    user = results[-len(signature.user_outputs) :] if signature.user_outputs else results
    scores, *outputs = (copies[node] for node in user)
    graph.output(scores)
    outputs = {name: node for name, node in zip(names, outputs, strict=True) if node.op == "call_function"}
    return Traced(graph, image, scores, outputs, attributes, constants, _strides(graph, image))


def _copy(node: fx.Node, graph: fx.Graph, copies: dict[fx.Node, fx.Node]) -> None:
    target = node.target
    if target in _IDENTITIES:
        copies[node] = copies[node.args[0]]
        return
    if "_assert" in str(target) or "_guard" in str(target):
        return
    made = graph.node_copy(node, copies.__getitem__)
    if _in_place(node):
        made.target = _out_of_place(target)
    elif target in _VIEWS:
        # A view of the traced tensor's memory need not be one of another layout's.
        made.target = _aten.reshape.default
    copies[node] = made


def _strides(graph: fx.Graph, image: fx.Node) -> dict[Size, int]:
    """Pixels a side of a position for the sizes that strided convolutions and pools lead to."""
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
