"""The measurements over time: predicted change, outputs as frames arrive, labels along the motion."""

from __future__ import annotations

import numpy as np
import torch

from lowlat.jobs.simulated import Costs
from lowlat.lab.accuracy import Timing
from lowlat.lab.methods import OURS, build
from lowlat.lab.recorded import MethodStages
from lowlat.lab.streaming import completed
from lowlat.lab.study.clocked import run_clocked
from lowlat.lab.study.consistency import consistency
from lowlat.lab.study.grounds import Ground, Which
from lowlat.lab.study.measure import schedule_unit
from lowlat.lab.study.parts import Row, Unit
from lowlat.lab.study.rows import pearson
from lowlat.lab.study.settings import INTERVAL
from lowlat.schedule import Adaptive, Every, PerFrame, Schedule

SCHEDULES = {
    "per frame": ("per-frame", False),
    "fixed, every 5 frames": ("every", False),
    "adaptive": ("adaptive", False),
    "adaptive, low-latency": ("adaptive", True),
}
"""Table 1's schedules, as the published table names them: policy, and whether S_h runs in the background."""


def deviation_unit(ground: Ground, which: Which) -> Unit:
    """Return the unit of the selector's predicted deviation beside the true one: over all pairs up to 10 apart, and
    over time.

    The true deviation is the share of pixels whose label by the per-frame network differs between the two frames
    (Section 3.4).
    """
    longest = 10

    def compute() -> list[Row]:
        video = ground.video(which)
        network, lows = video.network, video.lows
        predicted, true, series = [], [], []
        for key in range(len(video)):
            for index in range(key + 1, min(key + longest, len(video) - 1) + 1):
                # Inference mode must not reach around ground.video, which may have to train a network first.
                with torch.inference_mode():
                    value = network.deviation(lows[key].anchor(network), lows[index].reduced).item()
                share = float((video.per_frame[key] != video.per_frame[index]).mean())
                predicted.append(value)
                true.append(share)
                if key % longest == 0:
                    series.append({"index": index, "key": key, "predicted": round(value, 4), "true": round(share, 4)})
        about = {"data": ground.name, "network": which.name, "pairs": len(true)}
        return [{**about, "pearson": round(pearson(predicted, true), 4), "series": series}]

    return Unit("deviation", ground.inputs(**ground.which_inputs(which)), compute)


def _timing(ground: Ground, which: Which, name: str) -> Timing:
    """Return a schedule of Table 1, with the threshold that this table's unit found."""
    policy, background = SCHEDULES[name]
    if policy == "per-frame":
        return Timing(PerFrame(), delay=0)
    unit = schedule_unit(ground, which, policy, INTERVAL, ground.settings.delay if background else 0)
    (row,) = ground.parts.rows(unit)
    rule = Every(INTERVAL) if policy == "every" else Adaptive(row["threshold"], cut=None)
    return Timing(rule, row["delay"])


def streaming_unit(ground: Ground, which: Which, name: str, costs: Unit) -> Unit:
    """Return the unit of a schedule of Table 1 as frames arrive, under measured costs: against the truth at the time of
    completion.

    Args:
        costs: the unit that measures what the stages cost, `timing.live_unit`.
    """
    settings = ground.settings

    def compute() -> list[Row]:
        video = ground.video(which)
        mode = "low-latency" if SCHEDULES[name][1] else "blocking"
        (found,) = [row for row in ground.parts.rows(costs) if row.get("costs") == mode]
        charged = Costs(**{stage: found[stage] for stage in ("lower", "higher", "select", "propagate")})
        timing = _timing(ground, which, name)
        if timing.delay == 0:
            schedule = Schedule(timing.policy, "blocking")
        else:
            schedule = Schedule(timing.policy, decision="deferred")
        shown = run_clocked(
            MethodStages(build(OURS, video.network), video), len(video), schedule, charged, settings.fps
        )
        return [
            {
                "data": ground.name,
                "network": which.name,
                "schedule": name,
                "fps": settings.fps,
                "of_frames": len(video) - 1,
                **completed(shown, video.truth, video.network.classes),
            }
        ]

    more = {"schedule": name, "interval": INTERVAL, "delay": settings.delay, "fps": settings.fps}
    inputs = ground.inputs(**more, costs=costs.inputs, **ground.which_inputs(which))
    return Unit("streaming", inputs, compute)


def consistency_unit(ground: Ground, which: Which) -> Unit:
    """Return the unit of temporal consistency along exact flow: the truth's own, per frame, reuse, and Table 1's
    schedules."""
    settings = ground.settings

    def compute() -> list[Row]:
        video = ground.video(which)
        found = {"truth": [label.numpy() for label in video.truth], "per frame": video.per_frame}
        reuse = Timing(Every(INTERVAL), delay=0)
        found["reuse, every 5 frames"] = _labels(
            reuse.run(MethodStages(build("reuse", video.network), video), len(video))
        )
        ours = MethodStages(build(OURS, video.network), video)
        for name in SCHEDULES:
            if name != "per frame":
                found[name] = _labels(_timing(ground, which, name).run(ours, len(video)))
        about = {"data": ground.name, "network": which.name}
        return [
            {**about, "schedule": name, "consistency": round(consistency(labels, ground.motion), 2)}
            for name, labels in found.items()
        ]

    inputs = ground.inputs(interval=INTERVAL, delay=settings.delay, **ground.which_inputs(which))
    return Unit("consistency", inputs, compute)


def _labels(results) -> list[np.ndarray]:
    return [result.labels for result in results]
