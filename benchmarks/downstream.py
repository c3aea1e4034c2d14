"""`svconv.compat` beside the code that it replaces: `python -m benchmarks.downstream RESULT.json` (docs/downstream.md).

Both compute the same numbers, which is checked against float64 first; calls take turns, each turn gives a ratio, and
memory is the peak over what is resident before a call. FlexAttention stands beside neighborhood attention, forward
only: on CPUs it has no backward pass, and raises NotImplementedError.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.figures import Figure
from benchmarks.memory import PeakMemory
from benchmarks.report import figures_table, table
from benchmarks.results import banner
from benchmarks.rows import spread
from lowlat.video.files import whole_file
from svconv import compat

PRESET = "downstream"

# Seconds for which the contenders of a row take turns, and the fewest calls of each.
SECONDS, FEWEST = 6.0, 5


def unfolded(tensor: Tensor, kernel_size: int) -> Tensor:
    """Unfold (N, C, H, W) to (N, C, K * K, H, W)."""
    n, c, h, w = tensor.shape
    return F.unfold(tensor, kernel_size, padding=kernel_size // 2).view(n, c, kernel_size**2, h, w)


def convex_upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """Compute it as RAFT does: the unfolded flow times the softmax of the mask."""
    n, c, h, w = flow.shape
    weights = mask.view(n, 1, 9, 8, 8, h, w).softmax(2)
    fine = (weights * unfolded(flow, 3)[:, :, :, None, None]).sum(2)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(n, c, 8 * h, 8 * w)


def context_upsample(disparity: Tensor, weights: Tensor) -> Tensor:
    """Compute it as IGEV-Stereo and FoundationStereo do: the unfolded disparity, enlarged, times the weights."""
    return (F.interpolate(unfolded(disparity, 3).squeeze(1), scale_factor=4) * weights).sum(1)


def carafe(features: Tensor, masks: Tensor) -> Tensor:
    """Compute it by its definition: every window, repeated for each of the pixels that it becomes, times their
    kernels."""
    fine = F.interpolate(unfolded(features, 5).flatten(1, 2), scale_factor=2).unflatten(1, (features.shape[1], 25))
    return (fine * masks[:, None]).sum(2)


def carafe_x2(features: Tensor, masks: Tensor) -> Tensor:
    return compat.carafe(features, masks, 5, 1, 2)


def windows(tensor: Tensor, kernel_size: int) -> Tensor:
    """Gather each pixel's window, moved inwards at the border: (B, heads, H, W, D) -> (B, heads, H, W, K * K, D)."""
    rows, columns = (
        (torch.arange(size) - kernel_size // 2).clamp(0, size - kernel_size)[:, None] + torch.arange(kernel_size)
        for size in tensor.shape[2:4]
    )
    return tensor[:, :, rows][:, :, :, :, columns].transpose(3, 4).flatten(4, 5)


def na2d_av(attention: Tensor, value: Tensor) -> Tensor:
    return torch.einsum("bnijk,bnijkd->bnijd", attention, windows(value, 7))


def na2d_qk(query: Tensor, key: Tensor) -> Tensor:
    return torch.einsum("bnijd,bnijkd->bnijk", query, windows(key, 7))


def adaptive_conv(padded: Tensor, filters: Tensor) -> Tensor:
    n, h, w, size, _ = filters.shape
    patches = F.unfold(padded, size).view(n, padded.shape[1], size**2, h, w)
    return (patches * filters.flatten(3).permute(0, 3, 1, 2)[:, None]).sum(2)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return compat.na2d_av(compat.na2d_qk(query, key, 7).softmax(-1), value, 7)


def attention_unfolded(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return na2d_av(na2d_qk(query, key).softmax(-1), value)


def flex(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend to the same window, given to FlexAttention as a mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    h, w = query.shape[2:4]

    def near(b, n, i, j):
        (y, x), (v, u) = (i // w, i % w), (j // w, j % w)
        top, left = (y - 3).clamp(0, h - 7), (x - 3).clamp(0, w - 7)
        return (v >= top) & (v < top + 7) & (u >= left) & (u < left + 7)

    if not hasattr(flex, "compiled"):
        flex.compiled = torch.compile(flex_attention)
        flex.mask = create_block_mask(near, None, None, h * w, h * w, device="cpu")
    out = flex.compiled(*(t.flatten(2, 3) for t in (query, key, value)), block_mask=flex.mask, scale=1.0)
    return out.unflatten(2, (h, w))


@dataclass(frozen=True)
class Row:
    """What is measured: shapes of the tensors, and contenders by name; the first is ours, the next what it replaces."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    contenders: dict[str, Callable[..., Tensor]]
    training: bool


HEADS = (1, 8, 56, 56, 32)
LARGE, FLEX = "carafe, x2, K=5, 256 channels", "FlexAttention"
ROWS = [
    row
    for name, shapes, ours, theirs in (
        *(
            (f"convex_upsample, x8, {h} x {w}", ((1, 2, h, w), (1, 576, h, w)), compat.convex_upsample, convex_upsample)
            for h, w in ((55, 128), (5, 8), (24, 40))
        ),
        ("context_upsample, x4", ((1, 1, 120, 160), (1, 9, 480, 640)), compat.context_upsample, context_upsample),
        (LARGE, ((1, 256, 64, 64), (1, 25, 128, 128)), carafe_x2, carafe),
        *(
            (f"carafe, x2, K=5, {c} channels, {h} x {h}", ((1, c, h, h), (1, 25, 2 * h, 2 * h)), carafe_x2, carafe)
            for c, h in ((1, 64), (4, 8), (16, 8), (64, 24), (64, 100))
        ),
        ("na2d_av, K=7", ((*HEADS[:4], 49), HEADS), lambda a, v: compat.na2d_av(a, v, 7), na2d_av),
        ("na2d_qk, K=7", (HEADS, HEADS), lambda q, k: compat.na2d_qk(q, k, 7), na2d_qk),
        ("adaptive_conv, K=7", ((1, 64, 118, 118), (1, 112, 112, 7, 7)), compat.adaptive_conv, adaptive_conv),
        ("attention, K=7", (HEADS,) * 3, attention, attention_unfolded),
    )
    for row in (
        Row(name, shapes, {"svconv": ours, "replaced": theirs}, False),
        Row(name, shapes, {"svconv": ours, "replaced": theirs}, True),
    )
]
ROWS.append(Row("attention, K=7", (HEADS,) * 3, {"svconv": attention, FLEX: flex}, False))


def call(function: Callable, tensors: list[Tensor], training: bool) -> tuple[Tensor, ...]:
    if not training:
        with torch.inference_mode():
            return (function(*tensors),)
    tensors = [t.detach().requires_grad_() for t in tensors]
    out = function(*tensors)
    return out.detach(), *torch.autograd.grad(out, tensors, torch.ones_like(out))


def measure(row: Row) -> dict[str, object]:
    """Return a row of the table: for each contender its milliseconds and peak megabytes; `times`, how many times as
    long the other takes, turn by turn. Medians, with the 20th and 80th percentiles."""
    torch.manual_seed(0)
    tensors = [torch.randn(shape) / shape[-1] ** 0.5 for shape in row.shapes]
    reference = list(row.contenders.values())[1] if "replaced" in row.contenders else attention_unfolded
    exact = call(reference, [t.double() for t in tensors], row.training)
    figures: dict[str, dict[str, object]] = {}
    for name, function in row.contenders.items():
        for got, want in zip(call(function, tensors, row.training), exact, strict=True):
            error = ((got.double() - want).abs().max() / want.abs().max()).item()
            if not error < 1e-4:
                raise SystemExit(f"benchmarks.downstream: {name} of {row.name} is wrong, by {error:.1e} of the largest")
        memory = PeakMemory("cpu")
        memory.mark()
        call(function, tensors, row.training)
        memory.mark()
        figures[name] = {"memory_mb": memory.bytes()[1] / 1e6}
    samples: dict[str, list[float]] = {name: [] for name in row.contenders}
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS or len(samples["svconv"]) < FEWEST:
        for name, function in row.contenders.items():
            start = time.perf_counter()
            call(function, tensors, row.training)
            samples[name].append(1e3 * (time.perf_counter() - start))
    for name, figure in figures.items():
        figure["ms"] = spread(samples[name])
    times = spread([theirs / ours for ours, theirs in zip(*samples.values(), strict=True)])
    operation = "forward+backward" if row.training else "forward"
    return {"name": row.name, "shapes": row.shapes, "operation": operation, "figures": figures, "times": times}


def bars(rows: list[dict]) -> list[Figure]:
    """Return what should be reached, of the rows that were measured."""

    def times(name: str | tuple[str, ...], operation: str | None = None, other: str = "replaced") -> float | None:
        """Return the median ratio of a row, of several the least."""
        found = [
            row["times"][0]
            for row in rows
            if row["name"].startswith(name) and operation in (None, row["operation"]) and other in row["figures"]
        ]
        return min(found, default=None)

    return [
        Figure(
            "convex_upsample, x8, 55 x 128: forward against what it replaces",
            times("convex_upsample, x8, 55", "forward"),
            ">=",
            5,
        ),
        Figure("carafe, x2, K=5, 256 channels: forward against the definition", times(LARGE, "forward"), ">=", 20),
        Figure("convex_upsample and carafe: the slowest row", times(("convex", "carafe")), ">=", 1),
        Figure("attention, K=7: forward+backward against windows", times("attention", "forward+backward"), ">=", 20),
        Figure("attention, K=7: forward against FlexAttention", times("attention", "forward", FLEX), ">=", 5),
    ]


def load(path: Path) -> dict:
    """Read what `main` wrote, with each figure as a `Figure`."""
    content = json.loads(path.read_text())
    return {**content, "figures": [Figure(**figure) for figure in content["figures"]]}


def markdown(results: dict) -> str:
    """Return the tables of docs/downstream.md."""
    lines = [
        f"{results['device']}, {results['cores']} threads, {results['instruction_set']}, torch {results['torch']}; "
        f"medians (20th, 80th percentile), {results['date'][:10]}:",
        "",
    ]
    heading = ("function", "operation", "beside", "ms", "its ms", "times as fast", "MB", "its MB")
    lines += table(heading, [_cells(row) for row in results["rows"]])
    return "\n".join([*lines, "", *figures_table(results["figures"])]) + "\n"


def _cells(row: dict) -> tuple[str, ...]:
    (_, ours), (other, theirs) = row["figures"].items()
    spreads = ["{:.3g} ({:.3g}, {:.3g})".format(*values) for values in (ours["ms"], theirs["ms"], row["times"])]
    memory = [f"{figure['memory_mb']:.1f}" for figure in (ours, theirs)]
    return (row["name"], row["operation"], other, *spreads, *memory)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(
            "benchmarks.downstream: expected the file to write, as in: python -m benchmarks.downstream it.json"
        )
    rows = []
    for row in ROWS:
        rows.append(measure(row))
        print(*_cells(rows[-1]), sep="  ", flush=True)
    results = {**banner("cpu", PRESET), "rows": rows, "figures": [asdict(figure) for figure in bars(rows)]}
    with whole_file(Path(sys.argv[1])) as part:
        part.write_text(json.dumps(results, indent=1) + "\n")
    print(markdown(load(Path(sys.argv[1]))), end="")


if __name__ == "__main__":
    main()
