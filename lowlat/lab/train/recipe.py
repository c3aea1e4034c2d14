"""The recipe of a stage of training: its options, and the learning rate over its steps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import cos, inf, pi

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPTIMIZERS = ("adamw", "sgd")
DECAYS = ("cosine", "poly")
MOMENTUM = 0.9  # of "sgd"
MEND = "leave it out for the recipe's own"
SEEDS = 2**63  # as many as a generator of PyTorch takes
POWER = 0.9  # of "poly"
# These fields say how work is divided, how often it is saved and what memory it takes: they may change when a run is
# resumed.
RUNNING = ("accumulate", "workers", "checkpoint_every", "recompute")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's numbers, and how the run is carried out; lengths in steps.

    Attributes:
        batch: examples a step, over all processes and passes together.
        optimizer: ``"adamw"``, or ``"sgd"`` with momentum 0.9.
        decay: how the learning rate falls to zero after the warm-up: ``"cosine"``, half of one, or ``"poly"``, the
            remaining share of the steps to the power 0.9.
        warmup: steps in which the learning rate rises linearly; never more than a tenth of all steps.
        precision: ``"float32"``, or autocast to ``"bfloat16"`` or ``"float16"`` (with a scaled loss).
        clip: largest norm of the gradient; None for no limit.
        average: decay of the exponential moving average of weights and statistics, which is what is validated and
            kept; 0 for the weights of the last step.
        accumulate: passes that a process divides its share of the batch into, to save memory.
        workers: threads that draw batches ahead; 0 to draw each when its turn comes. No number depends on it.
        crop: sides in pixels of the crops that are trained on, at the scale of the working size and no larger than it;
            None for as large as the working size.
        scales: in the per-frame stages, the range of the random enlargement of an image.
        output_stride: in the per-frame stages, the stride the network is trained at; None for the one that runs.
        degraded: in the per-frame stages, whether images are blurred, noisy and of another tint as well, as those of
            other cameras are.
        pasted: in the per-frame stages, the share of images onto which things of rare classes are pasted from another
            image, see `lowlat.lab.data.augment.paste`.
        overlap: in the per-frame stages, how much the Lovász loss counts beside cross-entropy.
        balanced: whether a classifier is learned under class weights, taken out at the end.
        head_rate: in the per-frame stages, the factor on the learning rate of layers that start untrained.
        frozen: in the per-frame stages, the names of modules that keep their weights and statistics.
        recompute: in the per-frame stages, whether activations are computed again in the backward pass in place of
            being kept.
        kinds: in the stages on pairs, what pairs are made of, see `lowlat.lab.train.pairing`.
        pairs: in the stages on pairs, how many are drawn once and kept, at most; 0 to draw every pair afresh.
        between: in propagation, frames between key and current frame, by way of some of which features are carried.
        soft: in propagation, how much it counts beside the labels to say what the per-frame network does of every frame
            that features are carried to; 0 for labels alone.

    Raises:
        ValueError: a value that makes no sense.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    optimizer: str = "adamw"
    decay: str = "cosine"
    warmup: int = 50
    seed: int = 0
    precision: str = "float32"
    clip: float | None = None
    average: float = 0.998
    accumulate: int = 1
    workers: int = 1
    checkpoint_every: int = 50
    validate_every: int = 100
    crop: int | None = None
    scales: tuple[float, float] = (0.75, 1.75)
    output_stride: int | None = None
    degraded: bool = False
    pasted: float = 0.0
    overlap: float = 0.0
    balanced: bool = False
    head_rate: float = 1.0
    frozen: tuple[str, ...] = ()
    recompute: bool = False
    kinds: tuple[str, ...] = ("simulated",)
    pairs: int = 0
    between: int = 1
    soft: float = 0.0

    def __post_init__(self):
        for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS), ("decay", DECAYS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"train: expected {name} among {', '.join(known)}, got {getattr(self, name)!r}; {MEND}"
                )
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train: expected {name} of at least 1, got {getattr(self, name)}; {MEND}")
        for name in ("workers", "warmup", "pairs", "between", "soft"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"train: expected {name} of at least 0, got {getattr(self, name)}; {MEND}")
        if not 0 < self.learning_rate < inf or (self.clip is not None and not self.clip > 0):
            raise ValueError(
                f"train: expected learning_rate and clip above 0, got {self.learning_rate} and {self.clip}; {MEND}"
            )
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"train: expected seed of at least 0 and below 2**63, got {self.seed}; {MEND}")
        if not 0 <= self.average < 1:
            raise ValueError(f"train: expected average in [0, 1), got {self.average}; {MEND}")
        if self.crop is not None and self.crop < SMALLEST_CROP:
            raise ValueError(f"train: expected crop of at least {SMALLEST_CROP} pixels, got {self.crop}; {MEND}")

    def share(self, world: int) -> int:
        """Examples that one of ``world`` processes works on in one pass; ``ValueError`` where they don't come out."""
        parts = world * self.accumulate
        if self.batch % parts:
            raise ValueError(
                f"train: expected a batch that divides by processes x accumulate = {world} x {self.accumulate}, "
                f"got {self.batch}; try {(self.batch // parts + 1) * parts}"
            )
        return self.batch // parts

    def kept_pairs(self) -> int:
        """Return how many pairs are drawn once and kept: no more than the steps can look at; 0 to keep none."""
        return min(self.pairs, self.steps * self.batch)

    def numbers(self) -> dict[str, object]:
        """Return the fields that a resumed run must share with the one that was stopped."""
        return {name: value for name, value in asdict(self).items() if name not in RUNNING}


SMALLEST_CROP = 33  # pixels: four positions a side at stride 8 and one more


def change(recipe: Recipe, **changes) -> Recipe:
    """``recipe`` with the given fields; None leaves a field as it is; ``TypeError`` for a field there isn't."""
    known = [field.name for field in fields(Recipe)]
    if unknown := set(changes) - set(known):
        raise TypeError(f"train: expected fields of Recipe ({', '.join(known)}), got {', '.join(sorted(unknown))}")
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def schedule(step: int, recipe: Recipe) -> float:
    """Factor on the learning rate: linear warm-up, a tenth of the steps at most, then the recipe's decay to zero."""
    warmup = min(recipe.warmup, recipe.steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    gone = (step - warmup) / max(1, recipe.steps - warmup)
    return (1 - gone) ** POWER if recipe.decay == "poly" else 0.5 * (1 + cos(pi * gone))
