"""`Many`: which hub has which video, and which hub gets the videos of one that is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lowlat.runtime.words import counted
from lowlat.serve.log import say
from lowlat.serve.names import check_name, free_name
from lowlat.serve.reading import check_source
from lowlat.serve.service import Full, Settings

WATCH_S = 0.5
"""Seconds between two looks at the hubs."""
ANSWER_S = 10.0
"""Seconds that a hub has to answer such a look."""


class Lost(Exception):
    """Raised if the hub that was asked is gone, or not there yet."""


@dataclass(eq=False)
class Placed:
    """A video, the hub that has it, and the hub that it is being opened on; each None while there is none."""

    name: str
    spec: str | None
    hub: Hub | None = None
    going: Hub | None = None
    reason: str = "no replica so far"


@dataclass(eq=False)
class Hub:
    """A hub as the last look found it."""

    actor: Any
    state: dict[str, Any]
    number: int


class Many:
    """All videos of the ingress. It must be used on one event loop.

    Among the hubs with room, a new video goes to the hub with the fewest videos, and stays there. The videos of a hub
    that is gone go to other hubs by the same rule.

    Args:
        replicas: the handle that `deployed` returns.
        settings: how the service reads its sources; `most_videos` counts the videos of all hubs.

    Attributes:
        classes: the classes' names and colours, for the page; None before there was a hub.
        closing: whether no video is opened any more.
    """

    def __init__(self, replicas: Any, settings: Settings) -> None:
        self._replicas, self.settings = replicas, settings
        self.hubs: dict[str, Hub] = {}
        self.placed: dict[str, Placed] = {}
        self.classes: dict[str, Any] | None = None
        self.closing, self._changed, self._count = False, asyncio.Condition(), 0

    async def watch(self) -> None:
        """Look at the hubs for ever, take in new ones, and give the videos of those that are gone to others."""
        while True:
            with suppress(Exception):
                await self.look()
            await asyncio.sleep(WATCH_S)

    async def look(self) -> None:
        """Look at the hubs once."""
        answers = []
        with suppress(Exception):
            # Ray Serve raises an error while it has no replica.
            asked = self._replicas.broadcast("hub")
            answers = await asyncio.wait_for(asked.results_async(return_exceptions=True), ANSWER_S)
        actors = {actor._actor_id.hex(): actor for actor in answers if hasattr(actor, "_actor_id")}
        actors |= {key: hub.actor for key, hub in self.hubs.items()}
        await asyncio.gather(*(self._look_at(key, actor) for key, actor in actors.items()))
        await asyncio.gather(*(self._place(video) for video in list(self.placed.values())))

    async def _look_at(self, key: str, actor: Any) -> None:
        try:
            state = await asyncio.wait_for(_answer(actor.state.remote()), ANSWER_S)
            if self.classes is None:
                self.classes = await _answer(actor.looks.remote())
        except Lost:
            await self.lose(self.hubs.get(key))
            return
        except asyncio.TimeoutError:
            # The hub is busy, perhaps measuring costs. Ray Serve replaces one that hangs.
            return
        if key in self.hubs:
            self.hubs[key].state = state
        else:
            self._count += 1
            self.hubs[key] = Hub(actor, state, self._count)
            say("replica there", replica=self._count, room=state["room"], host=state["host"], process=state["process"])

    async def lose(self, hub: Hub | None) -> None:
        """Forget a hub that is gone, and give its videos to others."""
        keys = [key for key, other in self.hubs.items() if other is hub]
        if not keys:
            return
        del self.hubs[keys[0]]
        theirs = [video for video in self.placed.values() if video.hub is hub]
        for video in theirs:
            video.hub, video.reason = None, "its replica is gone"
        say("replica gone", level=logging.WARNING, replica=hub.number, videos=[video.name for video in theirs])
        await asyncio.gather(*(self._place(video) for video in theirs))

    async def _place(self, video: Placed) -> None:
        """Give a video to a hub. If that fails it is tried again at the next look."""
        if video.hub is None and video.going is None:
            with suppress(Lost, ValueError):
                await self._put(video)

    async def _put(self, video: Placed) -> None:
        if not self.hubs:
            raise Lost("no replica answers")
        # Videos that were placed since the last look count against the room.
        count = {
            hub: sum(hub in (other.hub, other.going) for other in self.placed.values()) for hub in self.hubs.values()
        }
        room = {hub: hub.state["room"] - count[hub] + len(hub.state["videos"]) for hub in count}
        hub = max(room, key=lambda one: (room[one] > 0, -count[one], room[one], -one.number))
        video.going = hub
        try:
            await _answer(hub.actor.open.remote(video.name, video.spec))
        except (Lost, ValueError) as error:
            video.reason = str(error)
            if isinstance(error, Lost):
                await self.lose(hub)
            raise
        finally:
            video.going = None
        if self.placed.get(video.name) is not video:
            # It was closed meanwhile.
            await _answer(hub.actor.close.remote(video.name))
            return
        video.hub = hub
        say("video placed", video=video.name, replica=hub.number)
        async with self._changed:
            self._changed.notify_all()

    async def open(self, spec: str | None, name: str | None = None) -> Placed:
        """Open a video; raises as `Service.open`, and `Lost` if there is no hub."""
        check_name(name)
        if spec is not None:
            await asyncio.to_thread(check_source, spec)
        if self.closing or len(self.placed) >= self.settings.most_videos:
            raise Full(
                f"serve: expected at most {counted(self.settings.most_videos, 'video')}, got one more; close another "
                "first, or start the service with a higher --max-videos"
            )
        name = name or free_name(spec, self.placed)
        if name in self.placed:
            raise ValueError(f"serve: expected a name that is not in use, got {name!r}; choose another")
        video = self.placed[name] = Placed(name, spec)
        try:
            await self._put(video)
        except BaseException:
            self.placed.pop(name, None)
            raise
        return video

    async def close_video(self, name: str) -> None:
        """Close a video; KeyError if none of this name is open."""
        video = self.placed.pop(name)
        if video.hub is not None:
            with suppress(Lost):
                await _answer(video.hub.actor.close.remote(name))
        say("video closed", video=name)

    async def close(self) -> None:
        """Close all videos, each with labels for the frames that are here."""
        self.closing = True
        self.placed.clear()
        ending = (_answer(hub.actor.end.remote()) for hub in self.hubs.values())
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*ending, return_exceptions=True), 2 * ANSWER_S)

    async def ask(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of the hub that has this video, and return its answer.

        Raises:
            KeyError: there is no such video.
            Lost: its hub is gone.
        """
        hub = self.placed[name].hub
        if hub is None:
            raise Lost("its replica is gone")
        try:
            return await _answer(getattr(hub.actor, method).remote(*arguments))
        except Lost:
            await self.lose(hub)
            raise

    async def hub_of(self, name: str) -> Hub | None:
        """Wait for the hub that has this video and return it; None once the video is closed."""
        async with self._changed:
            while True:
                video = self.placed.get(name)
                if video is None or video.hub is not None or self.closing:
                    return None if video is None else video.hub
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), WATCH_S)

    async def refresh(self) -> None:
        """Look at all known hubs again."""
        await asyncio.gather(*(self._look_at(key, hub.actor) for key, hub in list(self.hubs.items())))

    def abouts(self) -> list[dict[str, Any]]:
        """Describe all videos as their hubs last did, in the order in which they were opened."""
        told = {id(hub): {about["name"]: about for about in hub.state["videos"]} for hub in self.hubs.values()}
        return [told.get(id(video.hub), {}).get(video.name) or _unplaced(video) for video in self.placed.values()]

    async def news(self, seen: dict[str, tuple[Hub, int]]) -> list[dict[str, Any]]:
        """Describe all videos, each with what is new in its history since ``seen``, which is brought up to date."""
        hubs: Sequence[Hub] = list(self.hubs.values())

        async def of(hub: Hub) -> list[dict[str, Any]]:
            numbers = {name: number for name, (other, number) in seen.items() if other is hub}
            with suppress(Lost):
                return await _answer(hub.actor.news.remote(numbers))
            return []

        told: dict[str, dict[str, Any]] = {}
        for hub, abouts in zip(hubs, await asyncio.gather(*map(of, hubs)), strict=True):
            for about in abouts:
                placed = self.placed.get(about["name"])
                if placed is not None and placed.hub is hub:
                    told[about["name"]] = about
                    if about["samples"]:
                        seen[about["name"]] = hub, about["samples"][-1][0]
        return [
            told.get(name) or {**_unplaced(video), "samples": [], "shares": []} for name, video in self.placed.items()
        ]


async def _answer(reference: Any) -> Any:
    """Wait for the result of an actor's method.

    Raises:
        Lost: the actor is gone.
    """
    from ray.exceptions import RayActorError

    try:
        return await reference
    except RayActorError as error:
        raise Lost(str(error).splitlines()[0]) from error


def _unplaced(video: Placed) -> dict[str, Any]:
    """Describe a video that no hub has described yet."""
    from lowlat.serve.history import OUTCOMES
    from lowlat.video.address import shown

    events = ("key_frames", "landings", "passes_failed", "degraded")
    figures = ("median_ms", "p99_ms", "max_ms", "fps", "baseline_ms", "bound_ms", "fps_given")
    return {
        "name": video.name,
        "source": "frames sent by clients" if video.spec is None else shown(video.spec),
        "state": "opening" if video.hub is not None else "lost",
        "reason": "" if video.hub is not None else video.reason,
        "size": None,
        "counts": dict.fromkeys(("captured", *OUTCOMES, "under_way", *events), 0),
        "figures": dict.fromkeys(figures),
    }
