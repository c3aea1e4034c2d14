"""A traced model cut in three: S_l, S_h in links of a chain, and the classifier that follows F_h. For
`AdoptedNetwork`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lowlat.adoption.fragment import Fit, Fold, Fragment, Writer, find_folds
from lowlat.adoption.traced import Size, Traced, shape

_aten = torch.ops.aten
HEAVY = {
    _aten.conv2d.default, _aten.convolution.default, _aten.conv_transpose2d.input, _aten.linear.default,
    _aten.matmul.default, _aten.bmm.default, _aten.mm.default, _aten.addmm.default, _aten.einsum.default,
    _aten.scaled_dot_product_attention.default,
}  # fmt: skip
"""The heavy operators; each link of S_h begins with one."""
MOST_BETWEEN = 6
"""The most tensors that go from one link to the next, not counting what crosses the cut."""
FINEST = 4
"""Pixels a side of the finest positions that are propagated: kernels of 9x9 on finer ones reach too few pixels."""

Link = Callable[[Any, Any, Sequence[Tensor]], Any]
"""A link on a network: (network, result of the link before, all that crosses the cut) -> what the next link takes."""


@dataclass(frozen=True)
class Plan:
    """A network's three parts for one size of frames. Each part takes the network whose weights it uses first.

    Attributes:
        size: the height and width of the frames.
        lower: (network, image) -> F_l and what else crosses the cut.
        links: the links of S_h; the first one ignores what the link before gave.
        classify: (network, F_h) -> scores.
        low, high: shapes of F_l and F_h.
        classes: how many classes the scores have.
        upsampled: whether the model returns these scores bilinearly upsampled to the frame.
        code: a text that tells plans apart whose F_l has one size.
        folds: the batch norms that convolutions have taken over if ``network.folded`` says so.
    """

    size: Size
    lower: Callable[[Any, Tensor], tuple[Tensor, ...]]
    links: list[Link]
    classify: Callable[[Any, Tensor], Tensor]
    low: tuple[int, ...]
    high: tuple[int, ...]
    classes: int
    upsampled: bool = False
    code: str = ""
    folds: tuple[Fold, ...] = ()


class _Fragments:
    """One fragment in two versions: as the model is, and with its batch norms folded."""

    def __init__(self, plain: Fragment, folded: Fragment) -> None:
        self.plain, self.folded = plain, folded

    def __call__(self, network: Any, *given: Tensor) -> tuple[Tensor, ...]:
        return (self.folded if network.folded else self.plain)(network, *given)


@dataclass(frozen=True)
class Cut:
    """Where a traced model is cut.

    Attributes:
        split: the node that gives F_l.
        features: the node that gives F_h.
        crossing: what S_h reads of S_l and of the frame, in order.
        higher: the operators of S_h, in order.
        scores: the node that gives the scores of `classify`.
        upsampled: whether the model returns these scores bilinearly upsampled to the frame.
    """

    split: fx.Node
    features: fx.Node
    crossing: list[fx.Node]
    higher: list[fx.Node]
    scores: fx.Node
    upsampled: bool


def named_node(traced: Traced, name: str, model: nn.Module, what: str) -> fx.Node:
    """Return the node that a module gives; ValueError, with the closest names, if there is none or it is no map."""
    if not isinstance(name, str):
        raise TypeError(
            f"adopt: expected {what} as the name of a module, got {type(name).__name__}; name it as "
            "model.named_modules() does"
        )
    node = traced.outputs.get(name)
    if node is not None and traced.grid(node) is not None:
        return node
    known = [other for other, found in traced.outputs.items() if traced.grid(found) is not None]
    close = difflib.get_close_matches(name, known, 5, 0.3) or known[:5]
    there = name in dict(model.named_modules())
    if not known:
        height, width = traced.size
        raise ValueError(
            f"adopt: expected a model with maps of features, got none for frames of {width}x{height}; give a larger "
            "example"
        )
    reason = f"{name!r}, a module that gives no map of features" if there else repr(name)
    raise ValueError(
        f"adopt: expected {what} to name a module of the model that gives a map of features, got {reason}; the closest "
        f"are {', '.join(close)}; lowlat.split_points(model, example) shows them all"
    )


def cut(traced: Traced, split: str, features: str, model: nn.Module) -> Cut:
    """Find what lies on which side of a cut.

    Raises:
        ValueError: no such modules, features before the split, or scores that need more than the features.
    """
    start, end = named_node(traced, split, model, "split"), named_node(traced, features, model, "features")
    behind = traced.behind_image
    lower, until = traced.ancestors(start) & behind, traced.ancestors(end) & behind
    if start is end or start not in until:
        before = end in lower
        raise ValueError(
            f"adopt: expected features behind the split, got features={features!r} {'before' if before else 'beside'} "
            f"split={split!r}; name a module that {'comes later' if before else 'is made from what the split gives'}"
        )
    scores, upsampled = _scores(traced, until)
    tail = (traced.ancestors(scores) & behind) - until
    if not tail and scores is not end:
        raise ValueError(
            f"adopt: expected features before the scores, got features={features!r}, which the scores aren't made "
            f"from; {_others(traced)}"
        )
    order = [node for node in traced.order() if node in behind]
    read = _read_by(tail, lower | until | {traced.image}) - {end}
    if read:
        raise ValueError(
            f"adopt: expected scores made from features={features!r} alone, which is all that is propagated, got a "
            f"model that needs {', '.join(_names_of(traced, read)[:4])} too; {_others(traced)}"
        )
    higher = [node for node in order if node in until and node not in lower]
    crossing = _read_by(higher, lower | {traced.image})
    first = [start] if start in crossing else []
    rest = [node for node in (traced.image, *order) if node in crossing and node is not start]
    wrong = [node for node in rest if not node.meta["val"].is_floating_point()]
    if wrong:
        raise ValueError(
            f"adopt: expected numbers of the network's own type to cross the cut at {split!r}, got "
            f"{wrong[0].meta['val'].dtype} from {wrong[0].name}; split elsewhere"
        )
    return Cut(start, end, [*first, *rest], higher, scores, upsampled)


def _others(traced: Traced) -> str:
    """Say which modules may be named as features, for an error."""
    found = feature_points(traced)[-3:]
    if not found:
        return "no module of this model will do: give other scores by output=, or its parts by hand"
    return f"name a later module, such as {', '.join(found)}"


def _scores(traced: Traced, until: set[fx.Node]) -> tuple[fx.Node, bool]:
    """Return the node of the scores that labels are made from, and whether the model upsamples them as labels are
    upsampled."""
    node = traced.scores
    if node.target is _aten.upsample_bilinear2d.vec and node not in until:
        source, size, align_corners = node.args[:3]
        if size is not None and tuple(size) == traced.size and not align_corners:
            return source, True
    return node, False


def _read_by(nodes: Sequence[fx.Node] | set[fx.Node], among: set[fx.Node]) -> set[fx.Node]:
    return {before for node in nodes for before in node.all_input_nodes if before in among}


def _names_of(traced: Traced, nodes: set[fx.Node]) -> list[str]:
    names = _outermost(traced)
    return [names.get(node, f"the operator {node.name}") for node in traced.graph.nodes if node in nodes]


def _outermost(traced: Traced) -> dict[fx.Node, str]:
    """Return the module that gives each node, the outermost one if several do."""
    names: dict[fx.Node, str] = {}
    for name in sorted(traced.outputs, key=lambda name: name.count(".")):
        names.setdefault(traced.outputs[name], name)
    return {node: names[node] for node in traced.graph.nodes if node in names}


def feature_points(traced: Traced) -> list[str]:
    """Return the modules that F_h may come from: their results are maps from which alone everything after them is
    made."""
    behind, found = traced.behind_image, []
    whole = traced.ancestors(traced.scores) & behind
    for node, name in _outermost(traced).items():
        if node not in whole or traced.grid(node) is None or node is traced.scores:
            continue
        until = traced.ancestors(node) & behind
        if not _read_by(whole - until, until | {traced.image}) - {node}:
            found.append(name)
    return found


def plan(traced: Traced, split: str, features: str, model: nn.Module, multiple: int, links: int | None = None) -> Plan:
    """Make the three parts of a traced model.

    Args:
        multiple: what the sides of all sizes are multiples of, so that F_h has the same channels at each.
        links: how many links S_h has; by default as many as it has heavy operators.
    """
    found = cut(traced, split, features, model)
    folds = find_folds(traced, model, {*found.crossing, found.split, found.features, found.scores})
    writers = Writer(traced, model), Writer(traced, model, folds)

    def write(*arguments: Any, **options: Any) -> _Fragments:
        return _Fragments(*(writer.write(*arguments, **options) for writer in writers))

    low = Fit.of(traced, found.split)
    high = Fit.of(traced, found.features, _fold(traced, found.features, multiple))
    # Where F_l isn't such a map in the model, S_h reads what it is there, beside the map that the fast track reads.
    along = found.crossing[1:] if low.plain else found.crossing
    lower = write([traced.image], [found.split, *along], wanted_map=low)
    start = found.crossing if low.plain else [None, *along]
    made, code = _links(found, start, high, write)
    classify = write([found.features], [found.scores], given_map=high)
    channels = [shape(node)[traced.channels(node)] for node in (found.split, found.features)]
    return Plan(
        traced.size,
        lower,
        made if links is None else _regrouped(made, links),
        lambda network, features: classify(network, features)[0],
        (1, channels[0], *low.size),
        (1, channels[1] * high.fold**2, *high.size),
        shape(found.scores)[1],
        found.upsampled,
        code + classify.plain.code,
        tuple(folds.values()),
    )


def propagated_stride(traced: Traced, features: fx.Node) -> int:
    """Return the pixels a side of what is propagated as one: a position of F_h, or several side by side that make up
    `FINEST`."""
    stride = traced.stride(features)
    return stride * max(1, FINEST // stride)


def _fold(traced: Traced, node: fx.Node, multiple: int) -> int:
    """Return how many positions a side of F_h are propagated as one, as `propagated_stride` says, if the sides allow
    it."""
    stride, grid = traced.stride(node), traced.grid(node)
    fold = propagated_stride(traced, node) // stride
    while fold > 1 and (multiple % (stride * fold) or any(side % fold for side in grid)):
        fold -= 1
    return fold


def _links(found: Cut, start: list[fx.Node | None], high: Fit, write: Callable) -> tuple[list[Link], str]:
    """Make the links of S_h, each from one heavy operator to the next, and their code."""
    order, made, code = found.higher, [], ""
    before: list[fx.Node] = []
    for begin, end in _stretches(order, found.features):
        wanted = [found.features] if end == len(order) else _live(order, end, found.features)
        inside = set(order[begin:end])
        read = _read_by(inside, {node for node in start if node is not None})
        places = [place for place, node in enumerate(start) if node in read]
        given = [*before, *(start[place] for place in places)]
        last = {"wanted_map": high} if end == len(order) else {}
        fragments = write(given, wanted, **last)
        made.append(_link(fragments, places, first=begin == 0))
        code += fragments.plain.code
        before = wanted
    return made, code


def _link(fragments: _Fragments, places: list[int], *, first: bool) -> Link:
    def run(network: Any, state: Any, start: Sequence[Tensor]) -> Any:
        # One tensor is passed by itself, several as a tuple.
        before = () if first else (state,) if isinstance(state, Tensor) else state
        results = fragments(network, *before, *(start[place] for place in places))
        return results[0] if len(results) == 1 else results

    return run


def _stretches(order: list[fx.Node], features: fx.Node) -> list[tuple[int, int]]:
    """Return where links begin and end in the order of S_h's operators."""
    heavy = [place for place, node in enumerate(order) if node.target in HEAVY]
    cuts = [place for place in heavy[1:] if 1 <= len(_live(order, place, features)) <= MOST_BETWEEN]
    return list(zip([0, *cuts], [*cuts, len(order)], strict=True))


def _live(order: list[fx.Node], place: int, features: fx.Node) -> list[fx.Node]:
    """Return what is made before a place in the order and read after it."""
    behind = set(order[place:])
    return [node for node in order[:place] if node is features or behind.intersection(node.users)]


def _regrouped(links: list[Link], count: int) -> list[Link]:
    """Return a chain of as many links as another size has: the last links joined, or some that do nothing added before
    the last."""
    if len(links) <= count:
        idle: list[Link] = [lambda network, state, start: state] * (count - len(links))
        return [*links[:-1], *idle, links[-1]]

    def rest(network: Any, state: Any, start: Sequence[Tensor]) -> Any:
        for link in links[count - 1 :]:
            state = link(network, state, start)
        return state

    return [*links[: count - 1], rest]
