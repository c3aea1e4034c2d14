"""The one training loop: every stage of training goes through it. Seeded, divisible, and resumable after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lowlat.jobs.progress import progress_bar
from lowlat.lab.train import processes
from lowlat.lab.train.average import Average
from lowlat.lab.train.batch import Share, batches
from lowlat.lab.train.recipe import MOMENTUM, PRECISIONS, Recipe, schedule
from lowlat.lab.train.records import Log, load_state, save_state
from lowlat.runtime.words import counted

__all__ = ["Best", "Mean", "Recipe", "fit", "schedule"]

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Mean:
    """One share's part of a loss that is a mean over the whole batch: a sum, and the weight that it stands for.

    Means of shares of different weight (void pixels, rare classes) don't average to the mean; these sums add up to it.
    """

    total: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Best:
    """The best validation figure so far, and after how many steps."""

    figure: float
    steps: int


class Objective(nn.Module):
    """A loss as the module that `DistributedDataParallel` wants: a batch in, (sum, weight) out."""

    def __init__(self, modules: nn.Module, loss: Callable[[Batch], Mean | Tensor], recipe: Recipe):
        super().__init__()
        self.trained = modules
        self.loss = loss
        self.recipe = recipe

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        kind, dtype = next(self.trained.parameters()).device.type, PRECISIONS[self.recipe.precision]
        with torch.autocast(kind, dtype) if dtype != torch.float32 else nullcontext():
            value = self.loss(batch)
        if isinstance(value, Mean):
            return value.total, value.weight
        count = self.recipe.share(processes.world())
        return value * count, torch.full_like(value.detach(), count)


def fit(
    name: str,
    modules: nn.Module,
    groups: list[dict],
    draw: Callable[[Share], Batch],
    loss: Callable[[Batch], Mean | Tensor],
    recipe: Recipe,
    folder: str | Path,
    *,
    validate: Callable[[], float] | None = None,
    starts_from: Mapping[str, str] | None = None,
    tensorboard: bool = False,
) -> Best | None:
    """Minimise ``loss`` over ``groups``, from the last checkpoint in ``folder`` where there is one.

    Under `torchrun` every process works on its share of each batch, and the sum is the step that one process would
    have taken. A resumed run takes the same steps as one that was never stopped. At the end ``modules`` hold the
    averaged weights: those of the best validation, or the last ones where nothing is validated.

    Args:
        name: the stage's name: ``<folder>/<name>.pt`` is its checkpoint, ``<folder>/<name>.best.pt`` the best weights,
            ``<folder>/<name>.jsonl`` its log.
        modules: holds everything trained, and its buffers.
        groups: the optimizer's parameter groups; an entry ``scale`` multiplies the learning rate.
        draw: draws the examples of a share; called ahead, from other threads.
        loss: computes the loss of what ``draw`` gave: a `Mean`, or a scalar, the mean over the share's examples.
        validate: the figure that decides which weights are best, higher is better; called by every process, with the
            averaged weights in ``modules``.
        starts_from: what decides the numbers beside the recipe, by name: the data, the weights at the start, options
            (`lowlat.lab.train.provenance`). A resumed run must have the same.
        tensorboard: whether to write TensorBoard's files beside the log.

    Raises:
        ValueError: the checkpoint is of another recipe or starts from something else, or the batch doesn't divide among
            processes and passes.
        RuntimeError: a loss or a validation figure that is not finite.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(name, modules, groups, recipe, folder, starts_from or {})
    run.resume()
    writes = processes.rank() == 0
    log = Log(folder / f"{name}.jsonl", run.steps, tensorboard=tensorboard) if writes else None
    objective = Objective(modules, loss, recipe)
    with (
        processes.whole_batch_norms(modules),
        progress_bar() as progress,
        closing(batches(draw, recipe, run.steps)) as drawn,
        closing(log) if log else nullcontext(),
    ):
        if processes.world() > 1:
            objective = DistributedDataParallel(objective, broadcast_buffers=False)
        bar = progress.add_task(name, total=recipe.steps, completed=run.steps)
        while run.steps < recipe.steps:
            began, step = time.perf_counter(), run.steps
            figures = {"loss": run.step(objective, drawn), "seconds": round(time.perf_counter() - began, 3)}
            if validate is not None and run.due(recipe.validate_every):
                figures["validation"] = run.validate(validate)
            if log:
                log.write(step, **figures)
            progress.update(bar, advance=1, description=f"{name}: loss {figures['loss']:.3f}")
            if run.due(recipe.checkpoint_every):
                run.save()
    run.finish()
    return run.best


def begun(checkpoint: Path, fixed: Mapping[str, object]) -> dict | None:
    """Return what a run that was begun has left to go on from; None where there is no checkpoint.

    Args:
        fixed: what both runs must share, by name: the recipe's numbers, and what the run starts from.

    Raises:
        ValueError: the checkpoint is of another recipe, or starts from something else.
    """
    if not checkpoint.is_file():
        return None
    state = load_state(checkpoint)
    first = state.get("fixed", {})
    for name in {**first, **fixed}:
        before, wanted = first.get(name), fixed.get(name)
        if before != wanted:
            raise ValueError(
                f"train: expected {name}={before} as in {checkpoint}, got {wanted}; go on with the same data and "
                "options, or start afresh in another folder"
            )
    return state


def optimizer_of(recipe: Recipe, groups: list[dict]) -> torch.optim.Optimizer:
    """Return the optimizer that a recipe names."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=MOMENTUM, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


class _Run:
    """The state of a run: what a checkpoint keeps, and the steps that change it."""

    def __init__(
        self,
        name: str,
        modules: nn.Module,
        groups: list[dict],
        recipe: Recipe,
        folder: Path,
        starts_from: Mapping[str, str],
    ):
        self.name, self.modules, self.recipe = name, modules, recipe
        # A resumed run must have the same values as the one that was stopped.
        self.fixed = {**recipe.numbers(), **starts_from}
        self.checkpoint, self.best_weights = folder / f"{name}.pt", folder / f"{name}.best.pt"
        groups = [{"lr": recipe.learning_rate * group.pop("scale", 1.0), **group} for group in map(dict, groups)]
        self.optimizer = optimizer_of(recipe, groups)
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: schedule(step, recipe))
        self.scaler = torch.amp.GradScaler(self.trained[0].device.type, enabled=recipe.precision == "float16")
        self.average = Average(modules, recipe.average)
        self.steps = 0
        self.best: Best | None = None

    def due(self, every: int) -> bool:
        return self.steps % every == 0 or self.steps == self.recipe.steps

    def step(self, objective: nn.Module, drawn) -> float:
        """One update from the next ``recipe.accumulate`` batches; returns the loss of the whole batch."""
        self.optimizer.zero_grad(set_to_none=True)
        sums = 0.0
        for turn in range(self.recipe.accumulate):
            last = turn == self.recipe.accumulate - 1
            # Gradients are summed over the processes once, after the last pass.
            hold = nullcontext() if last or processes.world() == 1 else objective.no_sync()
            with hold:
                total, weight = objective(next(drawn))
                self.scaler.scale(total).backward()
            sums = sums + torch.stack((total.detach().float(), weight.float()))
        total, weight = processes.add(sums)
        # A batch of nothing but void pixels has weight 0: its loss is 0, and it has no gradient.
        weight = weight.masked_fill(weight == 0, 1)
        value = (total / weight).item()
        if not math.isfinite(value):
            raise RuntimeError(
                f"fit: expected a finite loss, got {value} at step {self.steps} of {self.name}; lower the learning rate"
            )
        self.scaler.unscale_(self.optimizer)
        # Gradients are of sums, added over passes and averaged over processes; from here on they are of the mean.
        for parameter in self.trained:
            if parameter.grad is not None:
                parameter.grad.mul_(processes.world() / weight)
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.trained, self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.step()
        self.average.update(self.steps)
        self.steps += 1
        return value

    def validate(self, measure: Callable[[], float]) -> float:
        with self.average.applied(), torch.no_grad():
            figure = measure()
        if not math.isfinite(figure):
            raise RuntimeError(
                f"fit: expected a finite validation figure, got {figure} after {counted(self.steps, 'step')} of "
                f"{self.name}; validate on images whose labels hold classes"
            )
        if self.best is None or figure > self.best.figure:
            self.best = Best(figure, self.steps)
            if processes.rank() == 0:
                save_state(self.best_weights, {"modules": self.average.state})
        return figure

    def save(self) -> None:
        if processes.rank() == 0:
            state = {name: getattr(self, name).state_dict() for name in ("modules", "optimizer", "rates", "scaler")}
            best = (self.best.figure, self.best.steps) if self.best else None
            save_state(
                self.checkpoint,
                {**state, "average": self.average.state, "steps": self.steps, "best": best, "fixed": self.fixed},
            )

    def resume(self) -> None:
        state = begun(self.checkpoint, self.fixed)
        if state is None:
            return
        for name in ("modules", "optimizer", "rates", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.average.load(state["average"])
        self.steps = state["steps"]
        self.best = Best(*state["best"]) if state["best"] else None

    def finish(self) -> None:
        """Put the weights of the best validation, or else the averages, into the modules."""
        processes.wait()
        kept = load_state(self.best_weights)["modules"] if self.best else self.average.state
        self.modules.load_state_dict(kept)
