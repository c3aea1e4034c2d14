"""The times of each module and each schedule on this machine, measured live."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from lowlat.jobs import latency
from lowlat.lab.study.about import machine
from lowlat.lab.study.grounds import Ground
from lowlat.lab.study.parts import Row, Unit
from lowlat.lab.study.settings import INTERVAL
from lowlat.networks.labels import full_size_labels
from lowlat.networks.video_network import VideoNetwork
from lowlat.runtime.options import DEFAULT, prepared
from lowlat.runtime.stages import working_size
from svconv import svconv2d

WARM_UP = 3
ISOLATION = "segment"
"""What keeps S_h out of a frame's way in the live run."""


def live_unit(ground: Ground) -> Unit:
    """Return the unit of :func:`schedule_times` at the ground's frame size."""
    settings = ground.settings
    counts = {"frames": settings.live_frames, "fps": settings.live_fps}
    inputs = {"size": list(ground.size), **counts, "isolation": ISOLATION, "machine": machine()}
    if ground.timed != "lite":
        inputs["weights"] = ground.weights
    numbers = settings.live_frames, settings.live_fps, INTERVAL
    return Unit("live", inputs, lambda: schedule_times(ground.timed, ground.size, *numbers))


def modules_unit(ground: Ground) -> Unit:
    """Return the unit of :func:`module_times` at the ground's frame size."""
    inputs = {"size": list(ground.size), "repeats": ground.settings.repeats, "machine": machine()}
    inputs["architecture"] = ground.architecture
    network = ground.whiches()[0]
    return Unit("modules", inputs, lambda: module_times(ground.network(network), ground.size, ground.settings.repeats))


def schedule_times(network: str, size: tuple[int, int], frames: int, fps: float, interval: int) -> list[Row]:
    """Measure Table 1's runtimes, and the stages of those runs; S_h runs in parts between frames.

    Args:
        network: ``"lite"``, or a file of weights.
        size: ``(width, height)``.
        frames: the frames of the low-latency run; other schedules run half as many.
        fps: the rate of the low-latency run, in frames a second; other schedules take frames as fast as they can.

    Returns:
        rows ``{"schedule", "average_ms", "max_ms"}``, then ``{"costs": mode, "lower", "higher", "select",
        "propagate"}``: medians in ms with nothing beside them ("blocking") and as they were live ("low-latency").
    """
    half = max(1, frames // 2)
    report = latency.measure(
        network,
        size=size,
        frames=frames,
        fps=fps,
        interval=interval,
        isolation=ISOLATION,
        baseline_frames=half,
        table_frames=half,
    )
    rows: list[Row] = [
        {"schedule": name, "average_ms": round(average, 2), "max_ms": round(longest, 2)}
        for name, (average, longest) in report.tables.schedules.items()
    ]
    alone, live = report.tables.stages, report.run.stages_ms
    tracks = {
        "lower": ("S_l", "S_l: lower"),
        "higher": ("S_h", "S_h: higher"),
        "select": ("selector", "propagation: select"),
        "propagate": ("propagation", "propagation: propagate"),
    }
    rows.append({"costs": "blocking", **{stage: alone[name] for stage, (name, _) in tracks.items()}})
    # A short run may end before S_h first lands: the stages that have not run live take their time alone.
    rows.append({"costs": "low-latency", **{s: live.get(track, alone[name]) for s, (name, track) in tracks.items()}})
    return rows


@torch.inference_mode()
def module_times(network: VideoNetwork, size: tuple[int, int], repeats: int) -> list[Row]:
    """Measure Table 3, propagation by its parts: median ms of each module by itself, on all of torch's threads."""
    net = prepared(network, DEFAULT, "cpu")
    width, height = size
    # Sides that the network takes, as in `lowlat latency --size`.
    seen = working_size(height, width, height * width, network.multiple)
    frame = torch.randint(0, 256, (1, 3, *seen), dtype=torch.uint8)
    image = net.normalise(frame.contiguous(memory_format=torch.channels_last))
    low = net.lower(image)
    high, reduced = net.higher(low), net.reduce(low)
    anchor = net.anchor(reduced)
    logits = net.predictor(anchor.predict, reduced.predict)
    size_k, padding = net.predictor.kernel_size, net.padding_mode
    adapt, moved = reduced.adapt[:, : reduced.predict.shape[1]], high[:, : net.moved]
    adapted, scores = net.adapt(adapt), net.fuse(high, reduced).scores
    modules: dict[str, Callable[[], object]] = {
        "S_l": lambda: net.lower(image),
        "S_h": lambda: net.higher(low),
        "selector": lambda: net.deviation(anchor, reduced),
        "propagation: reduction of F_l": lambda: net.reduce(low),
        "propagation: kernel predictor": lambda: net.predictor(anchor.predict, reduced.predict),
        "propagation: svconv": lambda: svconv2d(high, logits, kernel_size=size_k, padding_mode=padding),
        "propagation: AdaptNet": lambda: net.adapt(adapt),
        "propagation: fusion": lambda: net.fusion(moved, adapted),
        **({"propagation: classifier": lambda: net.classify(high)} if net.correct else {}),
        "propagation: labels at full size": lambda: full_size_labels(scores, (height, width)),
    }
    return [{"module": name, "ms": _median_ms(run, repeats)} for name, run in modules.items()]


def _median_ms(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(WARM_UP + repeats):
        began = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - began))
    return round(median(times[WARM_UP:]), 3)
