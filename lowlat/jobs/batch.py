"""The job behind `lowlat batch`: many recorded videos are labelled, each with a result of its own, on one machine or on
a Ray cluster."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lowlat import models
from lowlat.jobs.one_video import WRITTEN, Task, label_video, made_from, prepared_weights, remove_parts, whole_result
from lowlat.jobs.policies import choose_policy
from lowlat.jobs.progress import progress_bar
from lowlat.jobs.recordings import recordings
from lowlat.jobs.untrained import check_trained
from lowlat.jobs.workers import Failed, in_processes, on_ray
from lowlat.runtime.cpu.threads import check_cores, cores_at_hand
from lowlat.runtime.options import Options, find_device
from lowlat.runtime.words import counted
from lowlat.video.files import SinkError, prepare_folder
from lowlat.video.pipe import is_pipe


@dataclass
class BatchReport:
    """What :func:`batch` did. `videos` is the sum of the three counts below and of what an interrupted run left
    undone."""

    output: str
    videos: int
    labelled: int = 0
    skipped: int = 0
    """Videos whose result was there, whole and made from the same input in the same way."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """Videos without a result, each with its `input` and the `error`."""
    frames: int = 0
    """Frames labelled."""
    seconds: float = 0.0
    interrupted: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return plain values, for JSON."""
        return asdict(self)


def batch(
    videos: Sequence[str | Path],
    output: str | Path,
    *,
    ray: str | None = None,
    workers: int | None = None,
    cores: int = 1,
    write: str = "rle",
    weights: str | Path = "lite",
    policy: str | None = None,
    interval: float | None = None,
    threshold: float | None = None,
    pixels: int | str | None = "default",
    device: str = "cpu",
    dtype: str | None = None,
    max_frames: int | None = None,
    steady: bool = False,
    console: Console | None = None,
) -> BatchReport:
    """Label recorded videos. Each gets a folder in ``output``, whole or not at all.

    Every frame is labelled, and passes of S_h are waited for (`lowlat segment --mode blocking`), so labels depend on
    the video and the options alone, not on how fast or where they were made. A video that is damaged fails alone. When
    it is called again it skips what is there already. After Ctrl-C the report has `interrupted`, and whole results
    stay.

    Args:
        videos: files, folders and globs, as :func:`lowlat.jobs.recordings.recordings` takes them.
        output: a folder; the result of ``drive.mp4`` is the folder ``drive`` in it, with a ``report.json``.
        ray: a cluster's address, as `ray.init` takes it, whose machines see the same files under the same paths;
            "local" for Ray on this machine; None for processes of this machine without Ray.
        workers: how many videos are labelled at once; by default one for every ``cores`` cores of this machine, or of
            the cluster. On a GPU it is one; on a cluster as many as it has GPUs.
        cores: CPU cores of each worker.
        write: "rle", "grey" or "palette", as `lowlat segment --labels` writes label maps, or "overlay", a video.
        weights, policy, interval, threshold, pixels, device, dtype, max_frames, steady: as in `segment`.
        console: where the progress bar is shown; None for nowhere.

    Raises:
        ValueError, SinkError: bad input that concerns all videos, before any is begun.
        ConnectionError: there is no such cluster.
    """
    if write not in WRITTEN:
        raise ValueError(
            f"batch: expected --write to be one of {', '.join(WRITTEN)}, got {write!r}; choose one of them"
        )
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"batch: expected --max-frames of at least 1, got {max_frames}; leave it out for all")
    if workers is not None and workers < 1:
        raise ValueError(f"batch: expected at least 1 worker, got {workers}; leave --workers out for the default")
    if is_pipe(output):
        raise SinkError(
            f"batch: expected a folder to write to, got {str(output)!r}; name one with --output (lowlat segment writes "
            "to standard output)"
        )
    # The machines of a cluster may have more cores than this one.
    check_cores("batch", cores, "1 is the default", (os.cpu_count() or 1) if ray in (None, "local") else inf)
    choose_policy(policy, interval, threshold)
    Options(**({} if dtype is None else {"dtype": dtype}))
    on_gpu = str(device).startswith("cuda")
    # The machines of a cluster have GPUs where this one may have none.
    if ray in (None, "local"):
        find_device("batch", device)
    check_trained("batch", models.load(weights), fast_track=False)
    weights, stamp = prepared_weights(weights)
    chosen = {"policy": policy, "interval": interval, "threshold": threshold, "pixels": pixels, "device": device}
    options = {**chosen, "dtype": dtype, "max_frames": max_frames, "weights": weights}
    # Results that were made before there was the option are those without it.
    options |= {"steady": True} if steady else {}
    found, output = recordings(videos), Path(output).absolute()
    prepare_folder("batch", output, "--output")
    with _alone_in(output):
        tasks = [
            Task(str(path), str(output / name), write, options, made_from(path, write, options, stamp), cores)
            for name, path in found.items()
        ]
        undone = [task for task in tasks if not whole_result(task)]
        report = BatchReport(str(output), len(tasks), skipped=len(tasks) - len(undone))
        for task in undone:
            remove_parts(task)
        if undone:
            if workers is None and ray in (None, "local"):
                workers = 1 if on_gpu else max(1, cores_at_hand() // cores)
            if ray is None:
                run = in_processes(label_video, undone, workers, cores)
            else:
                run = on_ray(label_video, undone, workers, cores, address=ray, gpus=int(on_gpu))
            _work_off(run, undone, report, console)
    return report


def _work_off(
    run: Iterator[tuple[Task, dict[str, Any] | Failed]],
    undone: Sequence[Task],
    report: BatchReport,
    console: Console | None,
) -> None:
    """Take in the outcome of each video, and write it into the report."""
    began, told = time.monotonic(), set()
    try:
        with closing(run), progress_bar(console or Console(quiet=True)) as progress:
            plain = {"highlight": False, "markup": False, "soft_wrap": True}
            bar = progress.add_task("labelling videos", total=report.videos, completed=report.skipped)
            for task, outcome in run:
                # What a worker that was killed has left.
                remove_parts(task)
                if isinstance(outcome, Failed):
                    report.failed.append({"input": task.source, "error": outcome.error})
                    progress.console.print(f"lowlat: {task.source}: {outcome.error}", **plain)
                else:
                    report.labelled += 1
                    report.frames += outcome["frames"]
                    for line in set(outcome["notices"]) - told:
                        progress.console.print(f"{line} ({task.source})", **plain)
                        told.add(line)
                progress.advance(bar)
    except KeyboardInterrupt:
        report.interrupted = True
        for task in undone:
            remove_parts(task)
    report.failed.sort(key=lambda one: one["input"])
    report.seconds = round(time.monotonic() - began, 1)


@contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """Keep other batches out of the folder, which would take our unfinished results for those of a dead batch."""
    with open(output / ".batch.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(
                f"batch: expected a folder that no other run writes to, got {str(output)!r}; wait for that run's end, "
                "or choose another with --output"
            ) from error
        yield


def table(report: BatchReport) -> Table:
    """Make the table of figures for a terminal."""
    # A name may hold what would be markup in a string.
    title = Text(f"{counted(report.videos, 'video')} to {report.output}", style="table.title")
    rows = Table("", show_header=False, title=title)
    rows.add_column(justify="right")
    rows.add_row("labelled", str(report.labelled))
    rows.add_row("skipped, there already", str(report.skipped))
    rows.add_row("failed", str(len(report.failed)))
    rows.add_row("frames labelled", str(report.frames))
    rows.add_row("seconds", f"{report.seconds:g}")
    return rows


def failed_words(report: BatchReport) -> str:
    """Say in one line how many videos failed and which; empty if none has."""
    if not report.failed:
        return ""
    names = [one["input"] for one in report.failed]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (
        f"batch: expected {counted(report.videos, 'video')} that can be labelled, got {len(names)} that can't: "
        f"{', '.join(names[:5])}{more}; mend or leave out those, the others have their results"
    )
