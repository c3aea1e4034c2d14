"""The one training loop: every stage of training goes through it. Seeded, and resumable after a kill."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from lowlat.progress import progress_bar


@dataclass(frozen=True)
class Recipe:
    """What one stage of training is run with; lengths in steps."""

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 50
    seed: int = 0
    checkpoint_every: int = 50


def schedule(step: int, recipe: Recipe) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine down to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)))


def fit(
    name: str,
    modules: nn.Module,
    groups: list[dict],
    loss: Callable[[Generator], Tensor],
    recipe: Recipe,
    folder: str | Path,
) -> None:
    """Minimise ``loss`` over ``groups``, from the last checkpoint in ``folder`` where there is one.

    The randomness of step i comes from a generator seeded by (seed, i) alone, so a resumed run takes the same steps as
    one that was never stopped.

    Args:
        name: the stage's name: ``<folder>/<name>.pt`` is its checkpoint, ``<folder>/<name>.jsonl`` its log.
        modules: holds everything trained, and its buffers.
        groups: AdamW's parameter groups; an entry ``scale`` multiplies the learning rate.
        loss: draws a batch with the generator it is given and returns the loss, a scalar.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / f"{name}.pt", folder / f"{name}.jsonl"
    optimizer = torch.optim.AdamW(
        [{"lr": recipe.learning_rate * group.pop("scale", 1.0), **group} for group in map(dict, groups)],
        weight_decay=recipe.weight_decay,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, recipe))
    start = 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        rates.load_state_dict(state["rates"])
        start = state["step"]
    with progress_bar() as progress:
        bar = progress.add_task(name, total=recipe.steps, completed=start)
        for step in range(start, recipe.steps):
            began = time.perf_counter()
            value = loss(Generator().manual_seed(recipe.seed * 1_000_003 + step))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            rates.step()
            number = value.item()
            if not math.isfinite(number):
                raise RuntimeError(
                    f"fit: expected a finite loss, got {number} at step {step} of {name}; lower the learning rate"
                )
            with log.open("a") as file:
                seconds = round(time.perf_counter() - began, 3)
                file.write(json.dumps({"step": step, "loss": round(number, 5), "seconds": seconds}) + "\n")
            progress.update(bar, advance=1, description=f"{name}: loss {number:.3f}")
            if (step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps:
                state = {
                    "step": step + 1,
                    "modules": modules.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rates": rates.state_dict(),
                }
                part = checkpoint.with_suffix(".part")
                torch.save(state, part)
                part.replace(checkpoint)
