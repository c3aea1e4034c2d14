"""`Service`: the videos that are open, what each of them has to show, and how they end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np

from lowlat.runtime.words import counted
from lowlat.serve.labelling import Labelled, Labelling
from lowlat.serve.latest import Latest
from lowlat.serve.log import say
from lowlat.serve.names import check_name, free_name
from lowlat.serve.pictures import MadeOnce, decoded, overlay_jpeg, page_picture
from lowlat.serve.reading import Known, Reading, check_source
from lowlat.video.source import STALL_S

SILENT_S = 5.0
"""Seconds without labels after which a video that should have some is called silent."""
STUCK_S = 30.0
"""Seconds that frames may wait, none of them getting labels, before the service calls itself unhealthy."""
CLOSED_S = 15.0
"""Seconds that all videos together get to end in; a network that hangs must not keep the program from ending."""
MOST_VIDEOS = 8
DEFAULT_FPS = 5.0
"""The rate of a live video at which S_h keeps up on two cores."""


class Full(ValueError):
    """Raised if there are as many videos as the service takes."""


@dataclass(frozen=True)
class Settings:
    """How the service reads its sources.

    Args:
        most_videos: the most videos at once.
        fps: the most frames a second that are taken from a source; the others are skipped. Frames that clients send are
            all taken.
        stall_s: as in `open_source`.
        repeat: whether recordings begin again when they end.
    """

    most_videos: int = MOST_VIDEOS
    fps: float = DEFAULT_FPS
    stall_s: float = STALL_S
    repeat: bool = True


class Video:
    """One video of the service: its source, what became of its frames, and the newest frame with its labels.

    Args:
        name: the name that requests know it by.
        spec: its source, as `open_source` takes it; None for frames that clients send.
        service: the service that has opened it.
        known: what is known of a recording beforehand.

    Raises:
        RuntimeError: there is no room for one more.
    """

    def __init__(self, name: str, spec: str | None, service: Service, known: Known | None = None) -> None:
        self.name, self._service = name, service
        self.latest: Latest[Labelled] = Latest(service.loop)
        self._made = MadeOnce(service.pool)
        self._began = time.monotonic()
        settings = service.settings
        fps, size = (settings.fps, None) if known is None else (min(settings.fps, known.fps), known.size)
        self.labelled = service.labelling.open(name, fps, self.latest.put, size=size)
        self.reading = None
        if spec is not None:
            options = {"stall_s": settings.stall_s, "repeat": settings.repeat, "say": partial(say, video=name)}
            self.reading = Reading(spec, partial(self.labelled.submit, thinned=True), **options)

    def submit(self, data: bytes) -> int | None:
        """Take a picture that a client sent, and return the frame's index; None once the video is closed.

        Raises:
            ValueError: the bytes are no picture.
        """
        return self.labelled.submit(decoded(data))

    @property
    def state(self) -> tuple[str, str]:
        """The video's state in one word, and the reason. It is "waiting" for its first frame; "live"; "silent", if
        frames should come and don't; "failing", if no frame gets labels; or else the state of its source, of
        `lowlat.serve.reading.STATES`."""
        trouble = self.labelled.trouble
        if self.reading is not None and self.reading.state != "live":
            return self.reading.state, self.reading.reason
        if trouble:
            return "failing", trouble
        last = self.labelled.history.last_at
        if last is None and self.reading is None:
            return "waiting", "no frame has been sent yet"
        silent = time.monotonic() - (self._began if last is None else last)
        return ("silent", f"no labels for {silent:.0f} s") if silent > SILENT_S else ("live", "")

    @property
    def stuck(self) -> bool:
        """Whether frames wait and none has got labels for `STUCK_S` seconds."""
        last = self.labelled.history.last_at
        since = time.monotonic() - (self._began if last is None else last)
        return self.labelled.counts()["under_way"] > 0 and since > STUCK_S

    def about(self) -> dict[str, object]:
        """Describe the video in plain values, for JSON."""
        state, reason = self.state
        labelled, newest = self.labelled, self.latest.item
        measured = {"baseline_ms": labelled.baseline_ms, "bound_ms": labelled.bound_ms, "fps_given": labelled.fps}
        return {
            "name": self.name,
            "source": "frames sent by clients" if self.reading is None else self.reading.name,
            "state": state,
            "reason": reason,
            "size": None if newest is None else list(newest.frame.shape[1::-1]),
            "counts": labelled.counts(),
            "figures": {**labelled.history.figures(), **measured},
        }

    async def overlay(self, number: int, labelled: Labelled) -> bytes:
        """Return the drawn overlay of a frame, as JPEG."""
        return await self._made.get("overlay", number, partial(overlay_jpeg, labelled, self._service.classes))

    async def picture(self, number: int, labelled: Labelled) -> bytes:
        """Return the message from which the page draws a frame."""
        about = result_of(labelled)
        return await self._made.get("page", number, partial(page_picture, labelled, self._service.classes, about))

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop the source, label the frames that are here, and disconnect the viewers."""
        if self.reading is not None:
            self.reading.close()
        if not self.labelled.finish(timeout_s):
            say("frames left without labels", level=logging.WARNING, video=self.name, after_s=timeout_s)
        self.latest.end()


class Service(AbstractContextManager):
    """All videos of the service. Make it on the event loop that serves them.

    Args:
        labelling: labels the frames; the service closes it.
        settings: how sources are read.

    Attributes:
        classes: the labels' names and colours.
        closing: whether no video is opened any more.
        pool: the one thread that makes pictures for viewers, so that they never take more than one core.
    """

    def __init__(self, labelling: Labelling, settings: Settings | None = None) -> None:
        self.labelling, self.settings = labelling, settings or Settings()
        self.classes = labelling.classes
        self.loop = asyncio.get_running_loop()
        self.pool = ThreadPoolExecutor(1, "pictures")
        self.closing = False
        self._videos: dict[str, Video] = {}
        self._lock = threading.Lock()

    def videos(self) -> list[Video]:
        """Return the open videos, in the order in which they were opened."""
        return list(self._videos.values())

    def get(self, name: str) -> Video:
        """Return the open video of this name; KeyError if there is none."""
        return self._videos[name]

    def open(self, spec: str | None = None, name: str | None = None) -> Video:
        """Open a video.

        Args:
            spec: its source; None for frames that clients send.
            name: the video's name, by default made from the source.

        Raises:
            ValueError: a wrong name or one in use, or a recording that can't be opened.
            Full: there are as many videos as the service takes.
        """
        check_name(name)
        room = len(self._videos) < self.settings.most_videos
        known = check_source(spec) if room and spec is not None else None
        with self._lock:
            if self.closing or len(self._videos) >= self.settings.most_videos:
                raise Full(
                    f"serve: expected at most {counted(self.settings.most_videos, 'video')}, got one more; close "
                    "another first, or start the service with a higher --max-videos"
                )
            name = name or free_name(spec, self._videos)
            if name in self._videos:
                raise ValueError(f"serve: expected a name that is not in use, got {name!r}; choose another")
            try:
                video = self._videos[name] = Video(name, spec, self, known)
            except RuntimeError as error:
                raise Full(f"serve: {error}") from error
        say("video opened", video=name, source=video.about()["source"])
        return video

    def close_video(self, name: str) -> None:
        """Close a video once its frames have their labels; KeyError if none of this name is open."""
        with self._lock:
            video = self._videos.pop(name)
        video.close()
        say("video closed", video=name, **video.labelled.counts())

    def close(self) -> None:
        """Close all videos at once, each with labels for the frames that are here. May be called again."""
        with self._lock:
            self.closing = True
            names = list(self._videos)
        threads = [threading.Thread(target=self._close_quietly, args=(name,), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        end = time.monotonic() + CLOSED_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                say("a video that does not end is left", level=logging.WARNING)

    def _close_quietly(self, name: str) -> None:
        try:
            self.close_video(name)
        except KeyError:
            # Another thread has closed it.
            pass
        except RuntimeError as error:
            # The hub was given up while it hung in a frame.
            say("video not closed", level=logging.WARNING, video=name, error=str(error))

    def __exit__(self, *_: object) -> None:
        self.close()
        # Until viewers are disconnected they may still ask for the last picture.
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.labelling.close()


def result_of(labelled: Labelled) -> dict[str, object]:
    """Describe a result, its labels left out, in plain values, for JSON."""
    result = labelled.result
    return {
        "index": result.index,
        "captured_at": round(labelled.captured_at, 4),
        "time_s": None if result.time_s is None else round(result.time_s, 6),
        "latency_ms": round(result.latency_ms, 3),
        "age": result.age,
        "key": result.key,
        "landed": result.landed,
        "degraded": result.degraded,
        "startup": result.startup,
        "size": list(result.labels.shape),
    }


def shares(labels: np.ndarray, classes: int) -> list[float]:
    """Return the share of the pixels that each class has, of labels uint8 ``(H, W)``."""
    return np.round(np.bincount(labels.ravel(), minlength=classes)[:classes] / labels.size, 4).tolist()
