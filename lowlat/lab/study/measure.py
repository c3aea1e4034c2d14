"""The measurements of accuracy, in percent: each one a unit that is kept."""

from __future__ import annotations

from lowlat.lab.accuracy import Timing, by_distance, evaluate_images, per_frame, run_method, timing_at
from lowlat.lab.methods import OURS, build
from lowlat.lab.metrics import Scores
from lowlat.lab.study.grounds import Ground, Which
from lowlat.lab.study.parts import Row, Unit
from lowlat.lab.study.settings import INTERVAL
from lowlat.schedule import Every


def images_unit(ground: Ground) -> Unit:
    """Return the unit of the per-frame network on the still images of the test list."""

    def compute() -> list[Row]:
        found = evaluate_images(ground.network(ground.given), ground.images("test"), ground.device)
        return [{"data": ground.name, "split": "test", **found.overall(), "class_iou": found.class_iou}]

    return Unit("images", ground.inputs(images=ground.settings.images, test=ground.content("test")), compute)


def frames_unit(ground: Ground) -> Unit:
    """Return the unit of the per-frame network on the labelled video."""

    def compute() -> list[Row]:
        video = ground.video(ground.given)
        found = Scores.of(per_frame(video), video.classes)
        return [{"data": ground.name, "split": "val", **found.overall()}]

    return Unit("frames", ground.inputs(), compute)


def method_unit(ground: Ground, name: str, seed: int | None, pair_source: str | None = None) -> Unit:
    """Return the unit of a method: by distance from the key frame, and with a key frame every `INTERVAL` frames that is
    waited for.

    Args:
        seed: the seed of its training; None if there is nothing to train.
        pair_source: the source of the pairs it is trained on; None for the ground's own mixture.
    """
    settings = ground.settings

    def compute() -> list[Row]:
        method = ground.method(name, seed, pair_source)
        video = ground.video(ground.given)
        found = by_distance(method, video, settings.distances)
        at = {str(distance): round(confusion.miou, 2) for distance, confusion in found.items()}
        blocking = run_method(method, video, Timing(Every(INTERVAL), delay=0))
        figures = Scores.of(blocking.confusion, video.classes).overall()
        return [{"data": ground.name, "method": name, "seed": seed, "source": pair_source, **figures, "at": at}]

    training = {} if seed is None else ground.training_inputs(seed)
    inputs = ground.inputs(
        method=name,
        source=pair_source,
        interval=INTERVAL,
        distances=list(settings.distances),
        **training,
    )
    return Unit("method", inputs, compute)


def schedule_unit(ground: Ground, which: Which, policy: str, interval: int, delay: int) -> Unit:
    """Return the unit of the network's own fast track under a schedule in replay; ``delay`` 0 is blocking."""

    def compute() -> list[Row]:
        video = ground.video(which)
        timing = timing_at(video, policy, interval, delay)
        run = run_method(build(OURS, video.network), video, timing)
        return [
            {
                "data": ground.name,
                "network": which.name,
                "policy": policy,
                "interval": interval,
                "delay": delay,
                "threshold": getattr(timing.policy, "threshold", None),
                "mean_interval": round(run.mean_interval, 3),
                "mean_age": round(run.mean_age, 3),
                **Scores.of(run.confusion, video.classes).overall(),
            }
        ]

    inputs = ground.inputs(policy=policy, interval=interval, delay=delay, **ground.which_inputs(which))
    return Unit("schedule", inputs, compute)
