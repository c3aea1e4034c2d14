"""The service of many hubs over HTTP and WebSockets. Each request goes to the hub that has the video, and the answer of
that hub's own application comes back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from lowlat.serve.many.ingress import Hub, Lost, Many
from lowlat.serve.metrics import CONTENT_TYPE, Metrics
from lowlat.serve.routes import Access, Answers, asked_video, healthy, refusals, routed, unknown
from lowlat.serve.service import Full
from lowlat.serve.sockets import EVENTS_S, FULL, GOING, REFUSED, UNKNOWN, while_there

AGAIN = 1012
"""The closing code that asks the client to connect again, since its video has gone to another replica."""


def application(many: Many, access: Access) -> Starlette:
    """Make the ASGI application of the ingress."""
    metrics = Metrics(many.abouts)

    async def health(request: Request) -> Response:
        await many.refresh()
        stuck = any(hub.state["stuck"] for hub in many.hubs.values())
        return healthy(many.closing, stuck, [about["state"] for about in many.abouts()])

    async def figures(request: Request) -> Response:
        await many.refresh()
        return Response(await run_in_threadpool(metrics.text), media_type=CONTENT_TYPE)

    async def listed(request: Request) -> Response:
        await many.refresh()
        return JSONResponse(many.abouts())

    async def opened(request: Request) -> Response:
        spec, name = asked_video(await request.body(), access)
        try:
            with refusals():
                name = (await many.open(spec, name)).name
        except Lost as error:
            raise _gone() from error
        status, _, body = await _asked(many, name, {**_scope(request.scope, f"/videos/{name}"), "method": "GET"}, b"")
        return Response(body, 201 if status == 200 else status, media_type="application/json")

    async def closed(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            await many.close_video(name)
        except KeyError as error:
            raise unknown(name) from error
        return Response(status_code=204)

    async def passed_on(request: Request) -> Response:
        name = request.path_params["name"]
        status, headers, body = await _asked(many, name, _scope(request.scope), await request.body())
        answer = Response(body, status)
        answer.raw_headers = headers
        return answer

    async def results(socket: WebSocket) -> None:
        await _carried(many, socket, again=True)

    async def pictures(socket: WebSocket) -> None:
        await _carried(many, socket)

    async def frames(socket: WebSocket) -> None:
        name = socket.path_params["name"]
        mine = name not in many.placed
        if mine:
            try:
                # A video that a connection opens is closed with it.
                await many.open(None, name)
            except (ValueError, Lost) as error:
                await socket.accept()
                code = FULL if isinstance(error, Full) else REFUSED if isinstance(error, ValueError) else AGAIN
                await socket.close(code, str(error)[:120])
                return
        try:
            await _carried(many, socket)
        finally:
            if mine:
                with anyio.CancelScope(shield=True), suppress(KeyError):
                    await many.close_video(name)

    async def events(socket: WebSocket) -> None:
        await socket.accept()
        await while_there(socket, lambda: _send_events(socket, many, bool(access.allowed)))

    answers = Answers(
        health=health,
        figures=figures,
        listed=listed,
        opened=opened,
        about=passed_on,
        closed=closed,
        posted=passed_on,
        still=passed_on,
        stream=_Overlay(many),
        events=events,
        results=results,
        pictures=pictures,
        frames=frames,
    )
    return routed(answers, access)


class _Overlay:
    """Answers with a stream of overlays, which goes on when a video goes to another hub."""

    def __init__(self, many: Many) -> None:
        self._many = many

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name, begun = scope["path_params"]["name"], False
        if name not in self._many.placed:
            raise unknown(name)

        async def once(message: dict[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start" and begun:
                return
            begun = True
            # The end of one hub's part is not the end of the answer.
            await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(until_gone)
            while (hub := await self._many.hub_of(name)) is not None:
                if await _carry(self._many, hub, _scope(scope), once):
                    break
            if not begun:
                await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()


async def _asked(many: Many, name: str, scope: dict[str, Any], body: bytes) -> Any:
    try:
        return await many.ask(name, "ask", scope, body)
    except KeyError as error:
        raise unknown(name) from error
    except Lost as error:
        raise _gone() from error


async def _carried(many: Many, socket: WebSocket, *, again: bool = False) -> None:
    """Carry a WebSocket to the hub that has the video, and back.

    Args:
        again: whether to go on at the next hub if this one is gone, rather than have the client connect again.
    """
    name = socket.path_params["name"]
    await socket.accept()
    if name not in many.placed:
        await socket.close(UNKNOWN, "no such video")
        return

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await socket.send(message)
        elif message["type"] == "websocket.close":
            await socket.close(message.get("code", GOING), message.get("reason"))

    with suppress(WebSocketDisconnect, RuntimeError):
        while (hub := await many.hub_of(name)) is not None:
            ended = await _carry(many, hub, {**_scope(socket.scope), "subprotocols": []}, send, socket.receive)
            if ended or not again:
                break
        await socket.close(GOING if many.closing or name not in many.placed else AGAIN)


async def _carry(
    many: Many,
    hub: Hub,
    scope: dict[str, Any],
    send: Callable[[dict[str, Any]], Awaitable[None]],
    receive: Callable[[], Awaitable[Any]] | None = None,
) -> bool:
    """Carry one connection to a hub and back until it ends; return False if the hub is gone before that.

    A message is asked for only when the client has the one before, so a slow client gets the newest next.
    """
    from ray.exceptions import RayActorError

    key, gone = uuid.uuid4().hex, {"type": f"{scope['type']}.disconnect", "code": 1001}

    async def listen() -> None:
        message: dict[str, Any] = {"type": ""}
        while message["type"] != "websocket.disconnect":
            message = await receive()
            await hub.actor.give.remote(key, dict(message))
        raise WebSocketDisconnect

    async def carry() -> None:
        while (message := await hub.actor.take.remote(key)) is not None:
            await send(message)

    tasks: list[asyncio.Task[None]] = []
    try:
        # Ray may begin this actor's calls in another order, so nothing is given before it knows the connection.
        await hub.actor.connect.remote(key, scope)
        tasks += [asyncio.create_task(carry()), *([asyncio.create_task(listen())] if receive else [])]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return True
    except RayActorError:
        await many.lose(hub)
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(RayActorError):
            # This call is not waited for.
            hub.actor.give.remote(key, gone)


async def _send_events(socket: WebSocket, many: Many, may_open: bool) -> None:
    """Send what is new of all videos, as a service of one hub does, until the ingress closes."""
    told, seen = False, {}
    while not many.closing:
        more = {"classes": many.classes, "may_open": may_open} if many.classes and not told else {}
        told = told or bool(more)
        await socket.send_json({"now": time.time(), "videos": await many.news(seen), **more})
        await asyncio.sleep(EVENTS_S)


def _scope(scope: Any, path: str | None = None) -> dict[str, Any]:
    """Make the scope of a request for a hub's application, which need not know who asks, since that has been checked
    here."""
    kept = {name: scope[name] for name in ("type", "path", "query_string", "http_version", "scheme")}
    if path is not None:
        kept["path"] = path
    if scope["type"] == "http":
        kept["method"] = scope["method"]
    about = {"root_path": "", "client": None, "server": ("127.0.0.1", 80), "headers": [(b"host", b"127.0.0.1")]}
    return {**kept, **about, "raw_path": kept["path"].encode(), "asgi": {"version": "3.0", "spec_version": "2.3"}}


def _gone() -> HTTPException:
    return HTTPException(503, "serve: expected a replica that answers, got none; the video goes to another, ask again")
