"""The service of one hub over WebSockets: results, pictures for the page, events, and frames in."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket, WebSocketDisconnect

from lowlat.serve.allowed import AllowList
from lowlat.serve.labelling import Labelled
from lowlat.serve.pictures import label_png
from lowlat.serve.routes import Endpoint
from lowlat.serve.service import Full, Service, Video, result_of, shares
from lowlat.video.labels import runs_of

EVENTS_S = 0.5
"""Seconds between two messages of events."""
LABELS = ("none", "png", "rle")
MOST_AHEAD = 2
"""How many pictures a viewer can ask for before it has shown them."""
GOING, REFUSED, UNKNOWN, FULL = 1001, 4400, 4404, 4409
"""Codes of closing: the service or the video ends; a wrong word or picture; no such video; no room for one more."""


def sockets(service: Service, allowed: AllowList) -> dict[str, Endpoint]:
    """Make what answers the service's WebSockets, by the names of `Answers`."""

    def number_of(socket: WebSocket) -> int:
        # This is read before the client knows that it is connected, so that it misses nothing afterwards.
        found = [video for video in service.videos() if video.name == socket.path_params["name"]]
        return found[0].latest.number if found else 0

    async def results(socket: WebSocket) -> None:
        form = socket.query_params.get("labels", "none")
        began = number_of(socket)
        await socket.accept()
        if form not in LABELS:
            await socket.close(REFUSED, f"expected labels as {', '.join(LABELS)}")
            return
        if (video := await _found(service, socket)) is not None:
            await while_there(socket, lambda: _send_results(socket, service, video, form, began))

    async def pictures(socket: WebSocket) -> None:
        await socket.accept()
        if (video := await _found(service, socket)) is not None:
            await _send_pictures(socket, video)

    async def frames(socket: WebSocket) -> None:
        await socket.accept()
        name = socket.path_params["name"]
        mine = None
        try:
            video = service.get(name)
        except KeyError:
            try:
                # A video that a connection opens is closed with it.
                video = mine = await run_in_threadpool(service.open, None, name)
            except (ValueError, Full) as error:
                await socket.close(FULL if isinstance(error, Full) else REFUSED, str(error)[:120])
                return
        try:
            await _take_frames(socket, video)
        finally:
            if mine is not None:
                with anyio.CancelScope(shield=True), suppress(KeyError):
                    await run_in_threadpool(service.close_video, name)

    async def events(socket: WebSocket) -> None:
        await socket.accept()
        await while_there(socket, lambda: _send_events(socket, service, allowed))

    return {"events": events, "results": results, "pictures": pictures, "frames": frames}


async def _found(service: Service, socket: WebSocket) -> Video | None:
    try:
        return service.get(socket.path_params["name"])
    except KeyError:
        await socket.close(UNKNOWN, "no such video")
        return None


async def while_there(
    socket: WebSocket, send: Callable[[], Awaitable[None]], heard: Callable[[], None] = lambda: None
) -> None:
    """Run ``send`` until it ends or the client disconnects, whichever comes first. ``heard`` is called at each message
    of the client."""

    async def listen() -> None:
        # Any message of the client means the same.
        while (await socket.receive())["type"] != "websocket.disconnect":
            heard()
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        with suppress(WebSocketDisconnect):
            await send()
            await socket.close(GOING)
        group.cancel_scope.cancel()


async def _send_results(socket: WebSocket, service: Service, video: Video, form: str, number: int) -> None:
    """Send each result as it comes. A slow client gets the newest result next."""

    def message(labelled: Labelled) -> dict[str, object]:
        labels, about = labelled.result.labels, result_of(labelled)
        if form == "png":
            return {**about, "png": base64.b64encode(label_png(labels, service.classes)).decode()}
        return {**about, "runs": runs_of(labels)} if form == "rle" else about

    while (held := await video.latest.after(number)) is not None:
        number, labelled = held
        await socket.send_json(await run_in_threadpool(message, labelled))


async def _send_pictures(socket: WebSocket, video: Video) -> None:
    """Send one picture for each message of the viewer, the newest one at that time. A picture that the viewer has not
    asked for so lies in no buffer on the way."""
    asked = asyncio.Semaphore(0)
    ahead = 0

    async def send() -> None:
        nonlocal ahead
        number = 0
        while True:
            await asked.acquire()
            if (held := await video.latest.after(number)) is None:
                return
            number, labelled = held
            await socket.send_bytes(await video.picture(number, labelled))
            ahead -= 1

    def heard() -> None:
        nonlocal ahead
        if ahead < MOST_AHEAD:
            ahead += 1
            asked.release()

    await while_there(socket, send, heard)


async def _take_frames(socket: WebSocket, video: Video) -> None:
    """Take pictures, and answer each with its index once it has been handed in, so that a client can keep to that
    pace."""
    with suppress(WebSocketDisconnect):
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if (data := message.get("bytes")) is None:
                await socket.close(REFUSED, "serve: expected a picture a message, got text; send the picture's bytes")
                return
            try:
                index = await run_in_threadpool(video.submit, data)
            except ValueError as error:
                await socket.close(REFUSED, str(error)[:120])
                return
            if index is None:
                await socket.close(GOING)
                return
            await socket.send_json({"index": index})


async def _send_events(socket: WebSocket, service: Service, allowed: AllowList) -> None:
    """Send the state of all videos twice a second, each with what is new in its history, and the classes in the first
    message."""
    classes = {"names": service.classes.names, "palette": service.classes.palette}
    seen: dict[Video, int] = {}
    while not service.closing:
        seen = {video: seen.get(video, 0) for video in service.videos()}
        abouts = news(service, {video.name: number for video, number in seen.items()})
        numbers = {about["name"]: about["samples"][-1][0] for about in abouts if about["samples"]}
        seen = {video: numbers.get(video.name, number) for video, number in seen.items()}
        more = {"classes": classes, "may_open": bool(allowed)} if classes else {}
        classes = None
        await socket.send_json({"now": time.time(), "videos": abouts, **more})
        await asyncio.sleep(EVENTS_S)


def news(service: Service, seen: dict[str, int]) -> list[dict[str, object]]:
    """Describe each video, with the samples after number ``seen[name]`` of its history, and the shares of the classes
    in its newest labels."""
    abouts = []
    for video in service.videos():
        newest = video.latest.item
        share = [] if newest is None else shares(newest.result.labels, len(service.classes))
        samples = video.labelled.history.after(seen.get(video.name, 0))
        abouts.append({**video.about(), "samples": samples, "shares": share})
    return abouts
