"""How each network is trained, as data: a recipe for every stage of every network.

A network that is not in the table, an adopted one, is trained by `ADOPTED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lowlat import models
from lowlat.lab.train.recipe import Recipe

STAGES = ("base", "finetune", "propagation", "selector")
"""The stages that learn from labelled data, in their order."""
DEFAULT = "lite"
"""The network that is trained where nothing else is said."""


@dataclass(frozen=True)
class Plan:
    """How one network is trained.

    Attributes:
        frame: height and width of the frames that the recipes are made for; a network that starts here gets as many
            pixels as its working size, unless the data's own frames have fewer.
        start: what a network starts from where no weights are given, a name in `lowlat.lab.train.start.STARTS`.
        order: the stages that ``all`` runs.
        recipes: the recipe of each stage, ``distill`` too.
    """

    frame: tuple[int, int]
    start: str
    order: tuple[str, ...]
    recipes: Mapping[str, Recipe]


# The first four layers keep ImageNet's weights: leaving them out of the training takes a third off its time. At output
# stride 16 a step takes a third of the time; finetuning takes place at 8, which is what runs.
_LITE = Recipe(
    steps=900,
    batch=8,
    learning_rate=5e-4,
    weight_decay=0.02,
    output_stride=16,
    scales=(0.5, 2.0),
    degraded=True,
    pasted=0.5,
    overlap=1.0,
    balanced=True,
    head_rate=3.0,
    frozen=tuple(f"backbone.{name}" for name in ("_conv_stem", "_bn0", "_blocks.0", "_blocks.1", "_blocks.2")),
)
LITE = Plan(
    frame=(360, 480),
    start="imagenet-lite0",
    order=STAGES,
    recipes={
        "base": _LITE,
        "finetune": replace(_LITE, steps=160, learning_rate=2e-4, output_stride=8, balanced=False),
        "propagation": Recipe(
            steps=1500,
            batch=8,
            learning_rate=1e-3,
            balanced=True,
            crop=256,
            kinds=("simulated", "clips"),
            pairs=1200,
            between=3,
            soft=1.0,
        ),
        # With a clip among the pairs it learned to tell real frames from simulated ones (docs/design.md).
        "selector": Recipe(steps=300, batch=16, learning_rate=1e-3, weight_decay=0.0, pairs=600),
        # The selector's third of the reduction has no gradient there: without weight decay it stays as it is.
        "distill": Recipe(steps=300, batch=8, learning_rate=1e-4, weight_decay=0.0, warmup=20, validate_every=50),
    },
)

# Li, Shi, Lin: crops of 713, pairs 2 to 10 frames apart whose second frame is labelled, the base frozen afterwards,
# poly learning rate. Batch, optimizer, rates and steps of base are those of the network that it is: Zhao et al.,
# "Pyramid Scene Parsing Network", CVPR 2017, Section 5. Steps and rates of the other stages are ours; none has been run
# in full.
_RESNET101 = Recipe(
    steps=90_000,
    batch=16,
    learning_rate=0.01,
    weight_decay=1e-4,
    optimizer="sgd",
    decay="poly",
    warmup=0,
    precision="bfloat16",
    average=0.0,
    workers=8,
    checkpoint_every=500,
    validate_every=5_000,
    crop=713,
    scales=(0.5, 2.0),
    head_rate=10.0,
)
_RESNET101_PAIRS = replace(
    _RESNET101,
    steps=10_000,
    learning_rate=1e-3,
    optimizer="adamw",
    warmup=50,
    average=0.998,
    kinds=("video", "clips"),
)
RESNET101 = Plan(
    frame=(1024, 2048),
    start="untrained",
    order=("base", "propagation", "selector"),
    recipes={
        "base": _RESNET101,
        "finetune": replace(_RESNET101, steps=9_000, learning_rate=1e-3, head_rate=1.0),
        "propagation": _RESNET101_PAIRS,
        "selector": replace(_RESNET101_PAIRS, steps=3_000, weight_decay=0.0, kinds=("unlabelled",)),
        "distill": replace(
            _RESNET101_PAIRS, steps=3_000, batch=8, weight_decay=0.0, checkpoint_every=50, validate_every=100, workers=1
        ),
    },
)

# A network from elsewhere comes trained: it learns slowly frame by frame, and its fast track from nothing.
ADOPTED = Plan(
    frame=(360, 480),
    start="as built",
    order=("base", "propagation", "selector"),
    recipes={
        "base": Recipe(steps=900, batch=8, learning_rate=1e-4),
        "finetune": Recipe(steps=160, batch=8, learning_rate=2e-5),
        "propagation": Recipe(
            steps=600,
            batch=8,
            learning_rate=1e-3,
            balanced=True,
            kinds=("simulated", "clips"),
            pairs=800,
            between=3,
            soft=1.0,
        ),
        "selector": Recipe(steps=300, batch=16, learning_rate=1e-3, weight_decay=0.0, pairs=600),
        "distill": Recipe(steps=600, batch=8, learning_rate=1e-3, weight_decay=0.0, warmup=20, validate_every=50),
    },
)

PLANS = {"lite": LITE, "resnet101": RESNET101}


PER_FRAME = ("base", "finetune")
ON_PAIRS = ("propagation", "selector")
# The stages in which an option does something, where that is not all of them.
USED_IN = {
    "validate": PER_FRAME,
    "recompute": PER_FRAME,
    "clips": ON_PAIRS,
    "pairs": ON_PAIRS,
    "between": ("propagation",),
    "soft": ("propagation",),
    "bank": ON_PAIRS,
    "crop": (*PER_FRAME, *ON_PAIRS),
    "validate_every": (*PER_FRAME, "distill"),
}


def check_used(stage: str, options: Mapping[str, object]) -> None:
    """``ValueError`` for an option that is given, neither None nor empty, and does nothing in ``stage``."""
    for name, value in options.items():
        stages = USED_IN.get(name)
        if value not in (None, (), []) and stages is not None and stage not in (*stages, "all"):
            option = "clip" if name == "clips" else name.replace("_", "-")
            raise ValueError(
                f"train: expected --{option} with {', '.join(stages)} or all, got it with {stage!r}, which has no use "
                "for it; leave it out"
            )


def check_pairs(recipes: Mapping[str, Recipe], clips: object, bank: object) -> None:
    """``ValueError`` for clips or a bank that are given, not empty, and of use in none of a network's stages.

    Args:
        recipes: those of the stages asked for, by name.
    """
    stages = " and ".join(map(repr, recipes))
    kinds = sorted({kind for recipe in recipes.values() for kind in recipe.kinds})
    if clips and not {"clips", "unlabelled"}.intersection(kinds):
        raise ValueError(
            f"train: expected --clip with a stage that makes pairs of clips, got it with {stages} of a network that "
            f"makes {', '.join(kinds)} ones there; leave it out"
        )
    if bank and not any(recipe.pairs for recipe in recipes.values()):
        raise ValueError(
            f"train: expected --bank with pairs that are kept, got it with {stages} of a network that draws them "
            "afresh there; give --pairs too, or leave it out"
        )


def plan_of(network: str) -> Plan:
    """Return the plan of a network by its name; `ADOPTED` for one that has none of its own.

    Raises:
        ValueError: there is no such network.
    """
    if network not in PLANS and network not in models.MODELS and ":" not in network:
        raise ValueError(
            f"train: expected a network among {', '.join(models.MODELS)}, or an adopted one as in "
            f"package.module:function, got {network!r}; name one of them, or give a file of weights by --init"
        )
    return PLANS.get(network, ADOPTED)


def recipe_of(network: str, stage: str) -> Recipe:
    """Return the recipe of one stage of a network, ``stage`` being one of `STAGES` or ``"distill"``."""
    return plan_of(network).recipes[stage]
