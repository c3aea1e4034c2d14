"""The recipe of a stage of training: its options, and the learning rate over its steps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# These fields say how work is divided and how often it is saved: they may change when a run is resumed.
RUNNING = ("accumulate", "workers", "checkpoint_every")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's numbers, and how the run is carried out; lengths in steps.

    Attributes:
        batch: examples a step, over all processes and passes together.
        warmup: steps in which the learning rate rises linearly; half a cosine down to zero follows.
        precision: ``"float32"``, or autocast to ``"bfloat16"`` or ``"float16"`` (with a scaled loss).
        clip: largest norm of the gradient; None for no limit.
        average: decay of the exponential moving average of weights and statistics, which is what is validated and
            kept; 0 for the weights of the last step.
        accumulate: passes that a process divides its share of the batch into, to save memory.
        workers: threads that draw batches ahead; 0 to draw each when its turn comes. No number depends on it.

    Raises:
        ValueError: a value that makes no sense.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 50
    seed: int = 0
    precision: str = "float32"
    clip: float | None = None
    average: float = 0.998
    accumulate: int = 1
    workers: int = 1
    checkpoint_every: int = 50
    validate_every: int = 100

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"Recipe: expected precision among {', '.join(PRECISIONS)}, got {self.precision!r}")
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"Recipe: expected {name} of at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0 or (self.clip is not None and not self.clip > 0):
            raise ValueError(
                f"Recipe: expected learning_rate and clip above 0, got {self.learning_rate} and {self.clip}"
            )
        if not 0 <= self.average < 1 or self.workers < 0:
            raise ValueError(
                f"Recipe: expected average in [0, 1) and workers of at least 0, got {self.average}, {self.workers}"
            )

    def share(self, world: int) -> int:
        """Examples that one of ``world`` processes works on in one pass; ``ValueError`` where they don't come out."""
        parts = world * self.accumulate
        if self.batch % parts:
            raise ValueError(
                f"Recipe: expected a batch that divides by processes x accumulate = {world} x {self.accumulate}, "
                f"got {self.batch}; try {(self.batch // parts + 1) * parts}"
            )
        return self.batch // parts

    def numbers(self) -> dict[str, object]:
        """The fields that a resumed run must share with the one that was stopped."""
        return {name: value for name, value in asdict(self).items() if name not in RUNNING}


def change(recipe: Recipe, **changes) -> Recipe:
    """``recipe`` with the given fields; None leaves a field as it is; ``TypeError`` for a field there isn't."""
    known = [field.name for field in fields(Recipe)]
    if unknown := set(changes) - set(known):
        raise TypeError(f"train: expected fields of Recipe ({', '.join(known)}), got {', '.join(sorted(unknown))}")
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def schedule(step: int, recipe: Recipe) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine down to zero."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)))
