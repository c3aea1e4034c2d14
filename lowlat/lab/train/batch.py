"""A step's batch: every example drawn from a generator of its own, so that it divides among processes and passes.

The randomness of example e of step s comes from (seed, s, e) alone: the same batch whoever draws it, and whenever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from lowlat.lab.train import processes
from lowlat.lab.train.recipe import Recipe

T = TypeVar("T")


def seeded(*numbers: int) -> Generator:
    """Return a generator whose seed mixes ``numbers``."""
    return Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


@dataclass(frozen=True)
class Share:
    """The examples that one process draws for one pass."""

    step: Generator
    """The generator of choices that hold for the whole batch: the same in every share of a step."""
    examples: list[Generator]
    """One generator for each example of this share."""

    def collect(self, one: Callable[[Generator], T]) -> T:
        """Draw every example by ``one(generator)`` and join them by :func:`collate`."""
        return collate([one(generator) for generator in self.examples])


def collate(parts: Sequence[T]) -> T:
    """Join tensors ``(n, ...)`` along their first dimension, and tuples and dataclasses of them; None stays None."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        return replace(first, **{name: collate([getattr(part, name) for part in parts]) for name in names})
    joined = map(collate, zip(*parts, strict=True))
    return type(first)(*joined) if hasattr(first, "_fields") else type(first)(joined)


def shares(recipe: Recipe, start: int) -> Iterator[Share]:
    """This process's shares from step ``start`` on, ``recipe.accumulate`` a step."""
    count = recipe.share(processes.world())
    for step in range(start, recipe.steps):
        for turn in range(recipe.accumulate):
            first = (turn * processes.world() + processes.rank()) * count
            examples = [seeded(recipe.seed, step, 1 + example) for example in range(first, first + count)]
            yield Share(seeded(recipe.seed, step, 0), examples)


def batches(draw: Callable[[Share], T], recipe: Recipe, start: int) -> Iterator[T]:
    """Batches by ``draw`` of each share, in order; ``recipe.workers`` threads draw that many shares ahead."""
    waiting = shares(recipe, start)
    if not recipe.workers:
        yield from map(draw, waiting)
        return
    with ThreadPoolExecutor(recipe.workers, thread_name_prefix="draw") as pool:
        ahead = deque(pool.submit(draw, share) for share in islice(waiting, recipe.workers))
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(draw, share) for share in islice(waiting, 1))
            yield batch
