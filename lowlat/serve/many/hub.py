"""`HubActor`: a Ray actor with a hub on its device, and the service's application around it, for the ingress to talk
to."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from lowlat.jobs.live import steady_process
from lowlat.serve.allowed import AllowList
from lowlat.serve.labelling import Labelling
from lowlat.serve.routes import Access
from lowlat.serve.service import Service, Settings
from lowlat.serve.sockets import news
from lowlat.serve.web import application

ABANDONED_S = 60.0
"""Seconds after which a connection is dropped if nobody takes its messages, since its ingress is gone."""


class HubActor:
    """One hub. Its methods are coroutines, which Ray runs on one event loop.

    Args:
        settings: how the service reads its sources.
        most_bytes: the most bytes of a request's body.
        options: arguments of `Labelling`.
    """

    def __init__(self, settings: Settings, most_bytes: int, options: dict[str, Any]) -> None:
        self._labelling = Labelling(**options)
        self._settings, self._most_bytes = settings, most_bytes
        self._connections: dict[str, _Connection] = {}
        self._service: Service | None = None
        steady_process().__enter__()

    @property
    def service(self) -> Service:
        """The service, made when it is first asked for, on the event loop that asks."""
        if self._service is None:
            self._service = Service(self._labelling, self._settings)
            self._app = application(self._service, Access(AllowList(), None, self._most_bytes))
        return self._service

    async def state(self) -> dict[str, Any]:
        """Return what the ingress and the autoscaler go by: the videos, the names of those that are stuck, how many
        more there is room for, and where the hub runs."""
        service = self.service
        videos = service.videos()
        return {
            "videos": [video.about() for video in videos],
            "stuck": [video.name for video in videos if video.stuck],
            "room": await asyncio.to_thread(self._labelling.room, self._settings.fps),
            "host": socket.gethostname(),
            "process": os.getpid(),
        }

    async def looks(self) -> dict[str, Any]:
        """Return the classes' names and colours, for the page."""
        classes = self.service.classes
        return {"names": classes.names, "palette": classes.palette}

    async def open(self, name: str, spec: str | None) -> None:
        """Open a video unless it is open; raises as `Service.open`."""
        if name not in [video.name for video in self.service.videos()]:
            await asyncio.to_thread(self.service.open, spec, name)

    async def close(self, name: str) -> None:
        """Close a video, if it is open."""
        try:
            await asyncio.to_thread(self.service.close_video, name)
        except KeyError:
            return

    async def news(self, seen: dict[str, int]) -> list[dict[str, Any]]:
        """Return :func:`lowlat.serve.sockets.news` of this hub's videos."""
        return news(self.service, seen)

    async def end(self) -> None:
        """Close all videos, once the frames that are here have their labels."""
        await asyncio.to_thread(self.service.close)

    async def ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Answer an HTTP request, and return status, headers and body."""
        connection = _Connection(await self._ready(), scope, {"type": "http.request", "body": body})
        status, headers, parts = 500, [], []
        while (message := await connection.take()) is not None:
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
            else:
                parts.append(message.get("body", b""))
        return status, headers, b"".join(parts)

    async def connect(self, key: str, scope: dict[str, Any]) -> None:
        """Begin a WebSocket, or a response that goes on. ``key`` names the connection from here on."""
        first = {"type": "websocket.connect"} if scope["type"] == "websocket" else {"type": "http.request"}
        self._connections[key] = connection = _Connection(await self._ready(), scope, first)
        connection.ended.add_done_callback(lambda _: self._connections.pop(key, None))

    async def take(self, key: str) -> dict[str, Any] | None:
        """Wait for the next message of a connection to its client and return it; None at its end. A message is made
        only when it is taken, so a slow client gets the newest next."""
        connection = self._connections.get(key)
        return None if connection is None else await connection.take()

    async def give(self, key: str, message: dict[str, Any]) -> None:
        """Pass on a message of the client."""
        if key in self._connections:
            self._connections[key].incoming.put_nowait(message)

    async def _ready(self) -> Any:
        return self.service and self._app


class _Connection:
    """An ASGI application at work on one request, whose messages are taken one by one."""

    def __init__(self, app: Any, scope: dict[str, Any], first: dict[str, Any]) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self.incoming.put_nowait(first)
        self.ended = asyncio.create_task(app(scope, self.incoming.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        await asyncio.wait_for(self._outgoing.put(message), ABANDONED_S)

    async def take(self) -> dict[str, Any] | None:
        waiting = asyncio.create_task(self._outgoing.get())
        await asyncio.wait((waiting, self.ended), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and self._outgoing.empty():
            waiting.cancel()
            return None
        return await waiting
