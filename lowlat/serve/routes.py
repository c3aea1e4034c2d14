"""The addresses of the service in one table, for one hub (`web.py`, `sockets.py`) and many (`many/web.py`), and what
both answer alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from lowlat.serve.allowed import AllowList
from lowlat.serve.guard import Guard
from lowlat.serve.service import Full

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/chart.js": "chart.js"}

Endpoint = Callable[..., Any]
"""A function of a request or a WebSocket, or an ASGI application."""


@dataclass(frozen=True)
class Access:
    """What a request may do.

    Args:
        allowed: the sources that a request may name.
        token: the token that every request must show; None for none.
        most_bytes: the most bytes of a request's body.
    """

    allowed: AllowList
    token: str | None = None
    most_bytes: int = 8 << 20


@dataclass(frozen=True)
class Answers:
    """What answers each address of the service."""

    health: Endpoint
    figures: Endpoint
    listed: Endpoint
    opened: Endpoint
    about: Endpoint
    closed: Endpoint
    posted: Endpoint
    still: Endpoint
    stream: Endpoint
    events: Endpoint
    results: Endpoint
    pictures: Endpoint
    frames: Endpoint


def routed(answers: Answers, access: Access) -> Starlette:
    """Make the ASGI application that gives these answers to whoever may ask. It refuses with JSON."""
    routes: list[BaseRoute] = [
        *(Route(path, partial(_page, name=name)) for path, name in FILES.items()),
        Route("/healthz", answers.health),
        Route("/metrics", answers.figures),
        Route("/videos", answers.listed),
        Route("/videos", answers.opened, methods=["POST"]),
        Route("/videos/{name}", answers.about),
        Route("/videos/{name}", answers.closed, methods=["DELETE"]),
        Route("/videos/{name}/frames", answers.posted, methods=["POST"]),
        Route("/videos/{name}/overlay.jpg", answers.still),
        Route("/videos/{name}/overlay.mjpg", answers.stream),
        WebSocketRoute("/events", answers.events),
        WebSocketRoute("/videos/{name}/results", answers.results),
        WebSocketRoute("/videos/{name}/pictures", answers.pictures),
        WebSocketRoute("/videos/{name}/frames", answers.frames),
    ]

    async def refused(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    guard = Middleware(Guard, token=access.token, most_bytes=access.most_bytes)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: refused})


async def _page(request: Request, name: str) -> Response:
    return FileResponse(PAGE / name)


def healthy(closing: bool, stuck: bool, states: list[str]) -> Response:
    """Answer whether the service is healthy, with the number of videos in each of their ``states``."""
    status = "closing" if closing else "stuck" if stuck else "ok"
    body = {"status": status, "videos": {state: states.count(state) for state in sorted(set(states))}}
    return JSONResponse(body, 200 if status == "ok" else 503)


def asked_video(body: bytes, access: Access) -> tuple[str | None, str | None]:
    """Read the source and the name of a video to open from a request's body, each None if it isn't given.

    Raises:
        HTTPException: the body is no such object (400), or the source is not allowed (403).
    """
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"serve: expected a JSON object, got {len(body)} other bytes") from error
    words = ("name", "source")
    if not isinstance(asked, dict) or not all(key in words and isinstance(asked[key], str) for key in asked):
        raise HTTPException(
            400, f"serve: expected an object of {' and '.join(words)}, both strings, got {asked!r:.200}"
        )
    source = asked.get("source")
    if source is not None:
        with refusals():
            access.allowed.check(source)
    return source, asked.get("name")


@contextmanager
def refusals() -> Iterator[None]:
    """Turn errors of opening a video in this block into refusals: 403 for a source that is not allowed, 409 if there
    is no room, 400 for whatever else is wrong with the request."""
    try:
        yield
    except PermissionError as error:
        raise HTTPException(403, str(error)) from error
    except Full as error:
        raise HTTPException(409, str(error)) from error
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def unknown(name: str) -> HTTPException:
    """Return the refusal of a request for a video that isn't open."""
    return HTTPException(404, f"serve: expected an open video, got {name!r}; GET /videos lists them")
