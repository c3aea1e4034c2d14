"""Pictures after the paper's Figures 6 and 7: a frame, its truth, and what each way of labelling it shows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lowlat.lab.methods import OURS, build
from lowlat.lab.recorded import LabelledVideo, MethodStages
from lowlat.lab.study.grounds import Ground, Which
from lowlat.lab.study.parts import Row, Unit
from lowlat.runtime import KeyFrame
from lowlat.runtime.words import counted
from lowlat.video.files import whole_file

DISTANCES = (1, 3, 5, 8)
"""The columns: distances from the key frame, in frames."""


def strip_unit(ground: Ground, which: Which) -> Unit:
    """Return the unit of a ground's picture, in the study's folder; its row keeps a hash of the file, to know it again
    by."""
    path = ground.parts.folder / file_name(ground.name)

    def compute() -> list[Row]:
        video = ground.video(which)
        data = ground.images("val")
        key = max(0, (len(video) - max(DISTANCES)) // 2)
        figure = draw(video, key, np.array([*data.palette, (0, 0, 0)], np.uint8))
        with whole_file(path) as part:
            figure.savefig(part, format="png")
        return [{"data": ground.name, "network": which.name, "key": video.first + key, "picture": _hash(path)}]

    def intact(rows: list[Row]) -> bool:
        return path.is_file() and _hash(path) == rows[0]["picture"]

    return Unit("pictures", ground.inputs(**ground.which_inputs(which)), compute, intact)


def file_name(ground: str) -> str:
    """Return the name of a ground's picture."""
    return f"pictures-{ground}.png"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def draw(video: LabelledVideo, key: int, palette: np.ndarray) -> Figure:
    """Draw the rows frame, truth, per frame, reuse and ours; the columns are distances from key frame ``key``.

    Args:
        palette: uint8 ``(classes + 1, 3)``, void's colour last.
    """
    void = len(palette) - 1
    columns = [distance for distance in DISTANCES if key + distance < len(video)]
    frame = KeyFrame(key, key, video.lows[key], video.highs[key])
    reuse, ours = (MethodStages(build(name, video.network), video) for name in ("reuse", OURS))

    def coloured(labels: np.ndarray | torch.Tensor | None) -> np.ndarray | None:
        return None if labels is None else palette[np.minimum(np.asarray(labels), void)]

    rows = {
        "frame": lambda i: video.images[i].permute(1, 2, 0).numpy(),
        "truth": lambda i: coloured(video.truth[i]),
        "per frame": lambda i: coloured(video.per_frame[i]),
        "reuse": lambda i: coloured(reuse.propagate(frame, video.lows[i])[0]),
        "ours": lambda i: coloured(ours.propagate(frame, video.lows[i])[0]),
    }
    height, width = video.images[0].shape[-2:]
    figure = Figure(figsize=(2.6 * len(columns) + 0.4, 2.6 * height / width * len(rows) + 0.4), dpi=110)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(0.05, 0.01, 0.995, 0.96, 0.02, 0.02)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes_row, (name, picture) in zip(grid, rows.items(), strict=True):
        for axes, distance in zip(axes_row, columns, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            shown = picture(key + distance)
            if shown is not None:
                axes.imshow(shown, interpolation="nearest")
        axes_row[0].set_ylabel(name, fontsize=9)
    for axes, distance in zip(grid[0], columns, strict=True):
        axes.set_title(f"{counted(distance, 'frame')} from the key frame", fontsize=9)
    return figure
