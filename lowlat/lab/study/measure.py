"""The measurements that tables and figures are made of: each one a unit that is kept. Accuracy in percent."""

from __future__ import annotations

import numpy as np

from lowlat.lab.accuracy import evaluate_images
from lowlat.lab.methods import build
from lowlat.lab.methods.evaluate import MethodStages, Timing, by_distance, per_frame, timing_at
from lowlat.lab.metrics import Confusion
from lowlat.lab.study.grounds import Ground, Which
from lowlat.lab.study.parts import Row, Unit
from lowlat.lab.study.settings import INTERVAL
from lowlat.schedule import Every

OURS = "adaptive-fusion"


def scores(confusion: Confusion) -> Row:
    """Figures of a confusion matrix, percent."""
    return {
        "miou": round(confusion.miou, 2),
        "pixel_accuracy": round(confusion.pixel_accuracy, 2),
        "class_accuracy": round(confusion.class_accuracy, 2),
    }


def images_unit(ground: Ground) -> Unit:
    """The per-frame network on the still images of the test list."""

    def compute() -> list[Row]:
        found = evaluate_images(ground.network(ground.base), ground.images("test"))
        figures = {name: getattr(found, name) for name in ("miou", "pixel_accuracy", "class_accuracy")}
        return [{"data": ground.name, "split": "test", **figures, "class_iou": found.class_iou}]

    return Unit("images", ground.inputs(images=ground.settings.images, test=ground.content("test")), compute)


def frames_unit(ground: Ground) -> Unit:
    """The per-frame network on the labelled video."""

    def compute() -> list[Row]:
        return [{"data": ground.name, "split": "val", **scores(per_frame(ground.video(ground.base)))}]

    return Unit("frames", ground.inputs(), compute)


def method_unit(ground: Ground, name: str, seed: int | None, source: str | None = None) -> Unit:
    """A method of propagation by distance from the key frame, and with a key frame every `interval` frames.

    Args:
        seed: of its training; None where there is nothing to train.
        source: of the pairs it is trained on; None for the ground's own mixture.
    """
    settings = ground.settings

    def compute() -> list[Row]:
        method = ground.method(name, seed, source)
        video = ground.video(ground.base)
        found = by_distance(method, video, settings.distances, ground.scenes())
        at = {str(distance): round(confusion.miou, 2) for distance, confusion in found.items()}
        blocking = Timing(Every(INTERVAL), delay=0).run(MethodStages(method, video), len(video))
        figures = scores(video.score((result.index, result.labels) for result in blocking))
        return [{"data": ground.name, "method": name, "seed": seed, "source": source, **figures, "at": at}]

    training = {} if seed is None else ground.training_inputs(seed)
    inputs = ground.inputs(
        method=name,
        source=source,
        interval=INTERVAL,
        distances=list(settings.distances),
        **training,
    )
    return Unit("method", inputs, compute)


def schedule_unit(ground: Ground, which: Which, policy: str, interval: int, delay: int) -> Unit:
    """Our propagation under a schedule in replay; ``delay`` 0 is blocking."""

    def compute() -> list[Row]:
        video = ground.video(which)
        stages = MethodStages(build(OURS, video.network), video)
        timing = timing_at(video, policy, interval, delay)
        results = timing.run(stages, len(video))
        keys = sum(result.key for result in results[1:])
        return [
            {
                "data": ground.name,
                "network": which.name,
                "policy": policy,
                "interval": interval,
                "delay": delay,
                "threshold": getattr(timing.policy, "threshold", None),
                "mean_interval": round((len(results) - 1) / max(1, keys), 3),
                "mean_age": round(float(np.mean([result.age for result in results[1:]])), 3),
                **scores(video.score((result.index, result.labels) for result in results)),
            }
        ]

    inputs = ground.inputs(policy=policy, interval=interval, delay=delay, **ground.which_inputs(which))
    return Unit("schedule", inputs, compute)
