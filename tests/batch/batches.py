"""Videos for batches, the results of batches, and the processes that make them."""

import os

import numpy as np

from lowlat.video.sink import VideoSink

SIZE = (64, 48)


def record(path, frames=6, seed=0):
    """Write a video of coloured blocks, of which two frames have labels of their own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with VideoSink(path, SIZE, 25) as sink:
        for _ in range(frames):
            sink.write(np.kron(random.integers(0, 256, (3, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8))
    return path


def results(folder):
    """Return the contents of a folder by path, without reports, which hold times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (".batch.lock", "report.json"):
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def under_way(folder):
    """Return the temporary folders of videos in work, by the process that writes them."""
    return {int(path.name.split("-")[-1].partition(".")[0]): path for path in folder.rglob(".*.part") if path.is_dir()}


def writing(folder):
    """Return a process that has written labels of a video and is not done; None if there is none."""
    for pid, path in under_way(folder).items():
        lines = path / "labels.jsonl"
        if lines.exists() and lines.stat().st_size:
            return pid
    return None


def children():
    """Return the running processes that this one has started, without the one that `multiprocessing` keeps."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                with open(f"/proc/{entry}/cmdline") as file:
                    kept = "resource_tracker" in file.read()
            except OSError:
                continue
            if int(parent) == os.getpid() and state != "Z" and not kept:
                found.append(int(entry))
    return found
