"""`lowlat.split_points`: where a network can be cut, and what each cut costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.utils.flop_counter import FlopCounterMode

from lowlat.adoption.checks import check_example, check_module
from lowlat.adoption.cutting import HEAVY, feature_points, named_node
from lowlat.adoption.traced import Traced, shape, tensor_of
from lowlat.adoption.tracing import trace

MOST_SHARE = 1 / 3
"""The share of all FLOPs that S_l may have at most where a cut is chosen, since every frame pays for S_l."""
MOST_BEHIND = 0.05
"""The share of all FLOPs that may follow F_h at most where features are proposed."""
TIMES = 2
"""How often each operator is timed; the shortest time counts."""


@dataclass(frozen=True)
class SplitPoint:
    """A module after which S_l may end."""

    name: str
    flops: float
    """S_l's share of the FLOPs from the frame to F_h, in [0, 1]."""
    time: float
    """S_l's share of the measured time from the frame to F_h, in [0, 1]."""
    channels: int
    """How many channels F_l has."""
    stride: int
    """Pixels a side that a position of F_l stands for."""
    tensors: int
    """How many tensors cross the cut."""
    megabytes: float
    """What crosses the cut for one frame, in float32."""
    block: bool
    """Whether it is a block of the network, rather than a layer within one."""


@dataclass(frozen=True)
class SplitPoints:
    """The modules where a network can be cut, in order. Printed, it is a table of those that are blocks.

    Attributes:
        rows: all of these modules.
        features: the module whose result would be F_h.
        other_features: further modules that F_h may come from.
        chosen: the split that `split_points` would choose; empty if there is none.
        why: the reason, in words.
        gigaflops, ms: the cost of one frame, from the frame to F_h.
    """

    rows: list[SplitPoint]
    features: str
    other_features: list[str]
    chosen: str
    why: str
    gigaflops: float
    ms: float

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self)

    def __iter__(self) -> Iterator[SplitPoint]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        head = ("split", "FLOPs", "time", "channels", "stride", "tensors", "MB")
        blocks = [row for row in self.rows if row.block or row.name == self.chosen]
        # A layer that costs nothing follows, such as a norm: its row says the same.
        last = {round(row.flops, 3): row for row in blocks}
        shown = [row for row in blocks if row.name == self.chosen or last[round(row.flops, 3)] is row]
        cells = [
            (
                f"{'*' if row.name == self.chosen else ' '} {row.name}",
                f"{row.flops:.1%}",
                f"{row.time:.1%}",
                str(row.channels),
                str(row.stride),
                str(row.tensors),
                f"{row.megabytes:.1f}",
            )
            for row in shown
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) if place == 0 else cell.rjust(width)
                           for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
                 for row in (head, *cells)]  # fmt: skip
        others = f" (or {', '.join(self.other_features)})" if self.other_features else ""
        return "\n".join(
            [
                "S_l's share of FLOPs and time up to F_h; channels and stride of F_l; what crosses the cut",
                *lines,
                f"features={self.features!r}{others}: {self.gigaflops:.2f} GFLOPs and {self.ms:.1f} ms to F_h",
                f"* split={self.chosen!r}: {self.why}" if self.chosen else self.why,
            ]
        )


def split_points(
    model: nn.Module, example: Tensor, *, features: str | None = None, output: str | int | None = None
) -> SplitPoints:
    """List where a model can be cut into S_l and S_h, with the cost of each cut, measured here, and choose one.

    It chooses the deepest cut whose S_l has at most a third of the FLOPs: the deeper F_l lies the more the fast track
    sees, but every frame pays for S_l. Among cuts of about the same cost it chooses the one that fewer tensors cross.

    Args:
        model: takes normalised RGB ``(1, 3, H, W)``; it is put in eval mode.
        example: a frame of the size that the model is to work at; its numbers don't matter.
        features: the module whose result is F_h; by default the last one before the layer that gives the scores.
        output: the scores' name or place in what the model returns.

    Raises:
        ValueError: the model can't be traced, or has no module that F_h could come from.
        TypeError: the model is no module, or the example no tensor.
    """
    model = check_module("split_points", model)
    size = check_example("split_points", example)
    traced = trace(model, size, output, who="split_points")
    possible = feature_points(traced)
    flops, seconds = _costs(traced, model)
    late = _late(traced, possible, flops)
    if features is None:
        features = _features(traced, late)
    end = named_node(traced, features, model, "features")
    behind = traced.behind_image
    until = traced.ancestors(end) & behind
    whole_flops = sum(flops[node] for node in until) or 1
    whole_seconds = sum(seconds[node] for node in until) or 1
    rows, seen = [], set()
    blocks = _blocks(model)
    # Where several modules give one result, the block among them counts, else the outermost.
    names = sorted(traced.outputs, key=lambda name: (name not in blocks, name.count("."), name))
    for name in names:
        node = traced.outputs[name]
        if node not in until or node is end or node in seen or traced.grid(node) is None:
            continue
        seen.add(node)
        lower = traced.ancestors(node) & behind
        higher = until - lower
        crossing = {before for one in higher for before in one.all_input_nodes if before in lower | {traced.image}}
        if node not in crossing:
            continue
        numbers = sum(torch.Size(shape(one)).numel() for one in crossing)
        rows.append(
            SplitPoint(
                name,
                sum(flops[one] for one in lower) / whole_flops,
                sum(seconds[one] for one in lower) / whole_seconds,
                shape(node)[traced.channels(node)],
                traced.stride(node),
                len(crossing),
                numbers * 4 / 1e6,
                name in blocks,
            )
        )
    places = {node: place for place, node in enumerate(traced.graph.nodes)}
    rows.sort(key=lambda row: places[traced.outputs[row.name]])
    chosen, why = _chosen(rows)
    others = [name for name in late if traced.outputs[name] is not end]
    return SplitPoints(rows, features, others, chosen, why, whole_flops / 1e9, whole_seconds * 1e3)


def _late(traced: Traced, possible: list[str], flops: dict[fx.Node, float]) -> list[str]:
    """Return the modules that F_h may come from and after which little is left to do, since that is done on every
    frame."""
    behind = traced.behind_image
    whole = traced.ancestors(traced.scores) & behind
    limit = MOST_BEHIND * sum(flops[node] for node in whole)
    until = {name: traced.ancestors(traced.outputs[name]) for name in possible}
    return [name for name in possible if sum(flops[node] for node in whole - until[name]) <= limit]


def _features(traced: Traced, late: list[str]) -> str:
    """Return the last module before the layer that gives the scores; if the scores are a sum, the module that sums."""
    if not late:
        raise ValueError(
            "split_points: expected a module whose result all scores are made from, got none in this model; name one "
            "by features=, or give the parts by hand to lowlat.adopt"
        )
    behind = traced.ancestors(traced.scores) & traced.behind_image
    last = [node for node in traced.order() if node in behind and node.target in HEAVY][-1:]
    places = {node: place for place, node in enumerate(traced.graph.nodes)}
    before = [name for name in late if last and places[traced.outputs[name]] < places[last[0]]]
    place = max(places[traced.outputs[name]] for name in before or late)
    same = [name for name in late if places[traced.outputs[name]] == place]
    return min(same, key=lambda name: name.count("."))


def _blocks(model: nn.Module) -> set[str]:
    """Return the outermost members of the model's sequences, which a reader would call its blocks."""
    found: set[str] = set()

    def visit(prefix: str, module: nn.Module) -> None:
        container = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            # A subclass of a sequence is a block of its own, such as torchvision's convolutions with their norms.
            nested = type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
            if container and not nested:
                found.add(path)
            else:
                visit(f"{path}.", child)

    visit("", model)
    return found


def _chosen(rows: list[SplitPoint]) -> tuple[str, str]:
    blocks = [row for row in rows if row.block] or rows
    good = [row for row in blocks if row.flops <= MOST_SHARE]
    if not rows:
        return "", "no cut is possible before these features"
    if not good:
        row = min(blocks, key=lambda row: row.flops)
        return row.name, f"the cut with the least of the FLOPs in S_l; all have more than {MOST_SHARE:.0%}"
    deepest = max(row.flops for row in good)
    close = [row for row in good if row.flops >= 0.9 * deepest]
    # The last of those that cost the same: a norm or an activation behind a convolution has no FLOPs.
    row = min(reversed(close), key=lambda row: (row.tensors, -row.flops))
    return row.name, (
        f"the deepest block whose S_l has a third of the FLOPs at most ({row.flops:.0%}); "
        f"{'one tensor crosses' if row.tensors == 1 else f'{row.tensors} tensors cross'}"
    )


@torch.no_grad()
def _costs(traced: Traced, model: nn.Module) -> tuple[dict[fx.Node, float], dict[fx.Node, float]]:
    """Return the FLOPs and the seconds of every operator, for one frame."""
    flops: dict[fx.Node, float] = {}
    seconds: dict[fx.Node, float] = {}
    for time_it in [False] + [True] * TIMES:
        values: dict[fx.Node, object] = {node: tensor for node, tensor in traced.constants.items()}
        values |= {node: tensor_of(model, name) for node, name in traced.attributes.items()}
        image = traced.image.meta["val"]
        values[traced.image] = torch.randn(image.shape, dtype=image.dtype, device=image.device)
        order = traced.order()
        last = {before: node for node in order for before in node.all_input_nodes}
        for node in order:
            arguments, options = map_arg((node.args, node.kwargs), values.__getitem__)
            if time_it:
                _finish()
                began = time.perf_counter()
                values[node] = node.target(*arguments, **options)
                _finish()
                seconds[node] = min(seconds.get(node, float("inf")), time.perf_counter() - began)
            else:
                with FlopCounterMode(display=False) as counter:
                    values[node] = node.target(*arguments, **options)
                flops[node] = counter.get_total_flops()
            for before in node.all_input_nodes:
                if last[before] is node:
                    values.pop(before, None)
    return flops, seconds


def _finish() -> None:
    """Wait until a GPU has done what it was asked for."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
