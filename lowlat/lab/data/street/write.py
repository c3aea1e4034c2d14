"""The job behind `lowlat street`: a street as files, for other programs or for looking at."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from lowlat.jobs.progress import progress_bar
from lowlat.lab.data.street.street import Street
from lowlat.video.files import whole_file
from lowlat.video.sink import VideoSink, is_video_path


def write_street(
    out: str | Path,
    *,
    frames: int = 150,
    size: tuple[int, int] = (360, 480),
    seed: int = 0,
    split: str = "train",
    console: Console | None = None,
) -> None:
    """Write a street as a folder of files, or as a video of the frames with their labels beside them.

    The folder is one that `open_dataset` opens: ``images/``, ``labels/``, ``classes.txt`` and, last of all,
    ``videos.txt``; and ``flow/*.npz`` with the results of `Street.flow`, float32 ``(2, H, W)``, and of
    `Street.visible`, bool ``(H, W)``. Every file appears whole or not at all.

    Args:
        out: a new or empty folder, or a video (``.mp4``, ``.mkv``, ``.mov``).
        frames, size, seed, split: as in `Street`; ``size`` is (height, width).
        console: where the progress bar goes; None for nowhere.

    Raises:
        ValueError: what `Street` refuses, or a folder that holds something.
    """
    street = Street(seed=seed, size=size, frames=frames, split=split)
    out, write = Path(out), _write_video if is_video_path(out) else _write_folder
    if write is _write_folder and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"street: expected a new or empty folder, got {str(out)!r}; name another one")
    with progress_bar(console or Console(quiet=True)) as progress:
        write(street, out, progress.track(range(frames), description="street"))


def _write_video(street: Street, path: Path, indices: Iterable[int]) -> None:
    height, width = street.size
    palette = np.array(street.palette, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoSink(path, (2 * width, height), street.fps) as sink:
        for index in indices:
            image = street.image(index).permute(1, 2, 0).numpy()
            sink.write(np.concatenate((image, palette[street.label(index).numpy()]), 1))


def _write_folder(street: Street, folder: Path, indices: Iterable[int]) -> None:
    for name in ("images", "labels", "flow"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    palette = [value for colour in street.palette for value in colour]
    for index in indices:
        labels = Image.fromarray(street.label(index).numpy())
        labels.putpalette(palette)
        _save(folder / "images" / f"{index:06}.png", Image.fromarray(street.image(index).permute(1, 2, 0).numpy()))
        _save(folder / "labels" / f"{index:06}.png", labels)
        with whole_file(folder / "flow" / f"{index:06}.npz") as part, part.open("wb") as file:
            np.savez_compressed(file, flow=street.flow(index).numpy(), visible=street.visible(index).numpy())
    rows = zip(street.classes, street.palette, strict=True)
    _text(folder / "classes.txt", [f"{name} {red} {green} {blue}" for name, (red, green, blue) in rows])
    _text(folder / "videos.txt", [f"{video.start:06}" for video in street.videos])


def _save(path: Path, image: Image.Image) -> None:
    with whole_file(path) as part:
        image.save(part, format="PNG", compress_level=3)


def _text(path: Path, lines: list[str]) -> None:
    with whole_file(path) as part:
        part.write_text("\n".join(lines) + "\n")
