"""`Service`: the videos that are open, what each of them has to show, and how they end."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lowlat.serve.labelling import Labelled, Labelling
from lowlat.serve.latest import Latest
from lowlat.serve.log import say
from lowlat.serve.pictures import MadeOnce, decoded, overlay_jpeg, page_picture
from lowlat.serve.reading import Known, Reading, check_source
from lowlat.video.address import scheme_of
from lowlat.video.source import STALL_S

NAME = re.compile(r"[\w-]{1,40}", re.ASCII)
SILENT_S = 5.0
"""Seconds without labels after which a video that should give some is called silent."""
STUCK_S = 30.0
"""Seconds that frames may wait without any getting labels before the service calls itself unhealthy."""
CLOSED_S = 15.0
"""Seconds that videos get to end in, all together; a network that hangs must not keep the program."""
MOST_VIDEOS = 8
DEFAULT_FPS = 5.0
"""A live rhythm at which S_h keeps up on two cores."""


class Full(ValueError):
    """There are as many videos as the service takes."""


@dataclass(frozen=True)
class Settings:
    """How the service reads its sources.

    Args:
        most_videos: videos at once.
        fps: most frames a second that a source gives; the others are skipped. What clients send comes as it is.
        stall_s: as in `open_source`.
        repeat: begin recordings again when they end.
    """

    most_videos: int = MOST_VIDEOS
    fps: float = DEFAULT_FPS
    stall_s: float = STALL_S
    repeat: bool = True


class Video:
    """One video of the service: where its frames come from, what became of them, and the newest one with its labels.

    Args:
        spec: its source, as `open_source` takes it; None for frames that clients send.
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
        """Take a picture that a client sent; its index, None once the video is closed.

        Raises:
            ValueError: it is no picture.
        """
        return self.labelled.submit(decoded(data))

    @property
    def state(self) -> tuple[str, str]:
        """What the video is, in one word, and why: "waiting" for its first frame; "live"; "silent", where frames should
        come and don't; "failing", where none gets labels; or what its source is, of `lowlat.serve.reading.STATES`."""
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
        """Whether frames wait, and none has got labels for long."""
        last = self.labelled.history.last_at
        since = time.monotonic() - (self._began if last is None else last)
        return self.labelled.counts()["under_way"] > 0 and since > STUCK_S

    def about(self) -> dict[str, object]:
        """Plain values, for JSON."""
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
        """The drawn overlay of a frame, as JPEG."""
        return await self._made.get("overlay", number, partial(overlay_jpeg, labelled, self._service.classes))

    async def picture(self, number: int, labelled: Labelled) -> bytes:
        """The message that the page draws a frame from."""
        about = result_of(labelled)
        return await self._made.get("page", number, partial(page_picture, labelled, self._service.classes, about))

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop the source, label the frames that are here, let the viewers go."""
        if self.reading is not None:
            self.reading.close()
        if not self.labelled.finish(timeout_s):
            say("frames left without labels", level=logging.WARNING, video=self.name, after_s=timeout_s)
        self.latest.end()


class Service(AbstractContextManager):
    """All videos; to be made on the event loop that serves them.

    Args:
        labelling: the network; closed by the service.

    Attributes:
        classes: what the labels are called and how they are drawn.
        closing: whether no video is opened any more.
        pool: the thread on which pictures are made for viewers: one, so that they never take more than one core.
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
        """Those that are open, in the order in which they were opened."""
        return list(self._videos.values())

    def get(self, name: str) -> Video:
        """The video of this name; KeyError if none is open."""
        return self._videos[name]

    def open(self, spec: str | None = None, name: str | None = None) -> Video:
        """Open a video.

        Args:
            spec: its source; None for frames that clients send.
            name: by default made from the source.

        Raises:
            ValueError: a name that is none or in use, or a recording that can't be opened.
            Full: there are as many as the service takes.
        """
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(f"serve: expected a name of 1 to 40 letters, digits, - or _, got {name!r}")
        room = len(self._videos) < self.settings.most_videos
        known = check_source(spec) if room and spec is not None else None
        with self._lock:
            if self.closing or len(self._videos) >= self.settings.most_videos:
                raise Full(
                    f"serve: expected at most {self.settings.most_videos} videos, got one more; close another first, "
                    "or start the service with a higher --max-videos"
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
        """Close a video; KeyError if none is open under this name. Waits until its frames have their labels."""
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
            # Somebody else has closed it.
            pass
        except RuntimeError as error:
            # The hub was given up while it hung in a frame.
            say("video not closed", level=logging.WARNING, video=name, error=str(error))

    def __exit__(self, *_: object) -> None:
        self.close()
        # Viewers may still ask for the last picture until they are let go.
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.labelling.close()


def result_of(labelled: Labelled) -> dict[str, object]:
    """What a result says beside its labels: plain values, for JSON."""
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
    """The share of the pixels that each class has."""
    return np.round(np.bincount(labels.ravel(), minlength=classes)[:classes] / labels.size, 4).tolist()


def named_source(words: str) -> tuple[str | None, str]:
    """The name and the source in ``NAME=SOURCE``; no name where there is none, or a file is called so."""
    name, equals, spec = words.partition("=")
    if equals and NAME.fullmatch(name) and not Path(words).exists():
        return name, spec
    return None, words


def named_sources(sources: Sequence[str]) -> list[tuple[str, str]]:
    """What `named_source` makes of each; one without a name gets one that no other has, whichever comes first."""
    found = [named_source(words) for words in sources]
    taken = [name for name, _ in found if name]
    for place, (name, spec) in enumerate(found):
        if name is None:
            found[place] = free_name(spec, taken), spec
            taken.append(found[place][0])
    return found


def check_sources(sources: Sequence[str], settings: Settings) -> None:
    """Look at what is to be opened at the start, before anything is loaded.

    Raises:
        ValueError: as `Service.open`, of too many sources, names, and recordings that can't be opened.
    """
    if len(sources) > settings.most_videos:
        raise ValueError(
            f"serve: expected at most {settings.most_videos} sources, got {len(sources)}; leave some out, or raise "
            "--max-videos"
        )
    names = [name for name, _ in map(named_source, sources) if name]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"serve: expected a name for each source, got {name!r} twice; choose another")
    for words in sources:
        check_source(named_source(words)[1])


def free_name(spec: str | None, taken: Collection[str]) -> str:
    """A name that tells the source and isn't in use."""
    if spec is None:
        stem = "frames"
    elif scheme_of(spec):
        # The host, without name and password.
        stem = re.split(r"[:/?#]", spec.partition("://")[2].rpartition("@")[2])[0]
    else:
        stem = f"camera-{spec}" if spec.isdecimal() else Path(spec).stem
    stem = re.sub(r"[^\w-]+", "-", stem, flags=re.ASCII).strip("-")[:30] or "video"
    names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)
