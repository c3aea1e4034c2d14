"""The service over HTTP: the page, the videos, frames in, pictures out, health and figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from lowlat.serve.allowed import AllowList
from lowlat.serve.guard import Guard
from lowlat.serve.metrics import CONTENT_TYPE, Metrics
from lowlat.serve.pictures import label_png
from lowlat.serve.service import Full, Service, Video, result_of
from lowlat.serve.sockets import sockets
from lowlat.video.labels import runs_of

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/chart.js": "chart.js"}
BOUNDARY = "lowlat-picture"
AGAIN_S = 5.0
"""Seconds after which an overlay stream shows its last picture again: then it is noticed who has gone."""
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Access:
    """What a request may do.

    Args:
        allowed: the sources that it may name.
        token: what it must show; None for none.
        most_bytes: of its body.
    """

    allowed: AllowList
    token: str | None = None
    most_bytes: int = 8 << 20


def application(service: Service, access: Access) -> Starlette:
    """The service as an ASGI application."""
    metrics = Metrics(lambda: [video.about() for video in service.videos()])

    async def health(request: Request) -> Response:
        stuck = any(video.stuck for video in service.videos())
        return healthy(service.closing, stuck, [video.state[0] for video in service.videos()])

    async def figures(request: Request) -> Response:
        return Response(await run_in_threadpool(metrics.text), media_type=CONTENT_TYPE)

    async def listed(request: Request) -> Response:
        return JSONResponse([video.about() for video in service.videos()])

    async def opened(request: Request) -> Response:
        asked = object_of(await request.body())
        spec = asked.get("source")
        try:
            if spec is not None:
                access.allowed.check(spec)
            video = await run_in_threadpool(service.open, spec, asked.get("name"))
        except PermissionError as error:
            raise HTTPException(403, str(error)) from error
        except Full as error:
            raise HTTPException(409, str(error)) from error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return JSONResponse(video.about(), 201)

    async def about(request: Request) -> Response:
        return JSONResponse(_video(service, request).about())

    async def closed(request: Request) -> Response:
        name = _video(service, request).name
        try:
            await run_in_threadpool(service.close_video, name)
        except KeyError as error:
            raise HTTPException(404, f"serve: expected an open video, got {name!r}") from error
        return Response(status_code=204)

    async def posted(request: Request) -> Response:
        video, wait_s, form = _video(service, request), _seconds(request), _form(request, ("json", "png"))
        number = video.latest.number
        try:
            index = await run_in_threadpool(video.submit, await request.body())
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        if index is None:
            raise HTTPException(409, f"serve: expected an open video, got {video.name!r}, which is closing")
        if not wait_s:
            return JSONResponse({"index": index}, 202)
        try:
            labelled = await asyncio.wait_for(_answered(video, index, number), wait_s)
        except asyncio.TimeoutError as error:
            raise HTTPException(504, f"serve: expected labels within {wait_s:g} s, got none") from error
        if labelled is None:
            raise HTTPException(409, f"serve: expected labels of frame {index}, got none: a newer one took its place")
        result, labels = result_of(labelled), labelled.result.labels
        if form == "png":
            body = await run_in_threadpool(label_png, labels, service.classes)
            return Response(body, media_type="image/png", headers={"X-Lowlat-Result": json.dumps(result)})
        return JSONResponse({**result, "runs": await run_in_threadpool(runs_of, labels)})

    async def still(request: Request) -> Response:
        video = _video(service, request)
        if video.latest.item is None:
            raise HTTPException(404, f"serve: expected a frame of {video.name!r}, got none so far; ask again later")
        picture = await video.overlay(video.latest.number, video.latest.item)
        return Response(picture, media_type="image/jpeg")

    async def stream(request: Request) -> Response:
        media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return StreamingResponse(_parts(_video(service, request)), media_type=media_type)

    routes: list[BaseRoute] = [
        *pages(),
        Route("/healthz", health),
        Route("/metrics", figures),
        Route("/videos", listed),
        Route("/videos", opened, methods=["POST"]),
        Route("/videos/{name}", about),
        Route("/videos/{name}", closed, methods=["DELETE"]),
        Route("/videos/{name}/frames", posted, methods=["POST"]),
        Route("/videos/{name}/overlay.jpg", still),
        Route("/videos/{name}/overlay.mjpg", stream),
        *sockets(service, access.allowed),
    ]
    return guarded(routes, access)


def guarded(routes: list[BaseRoute], access: Access) -> Starlette:
    """An application of these routes, that answers whoever may ask; refusals are JSON."""

    async def refused(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    guard = Middleware(Guard, token=access.token, most_bytes=access.most_bytes)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: refused})


def pages() -> list[BaseRoute]:
    """The routes of the page's files."""

    async def page(request: Request, name: str) -> Response:
        return FileResponse(PAGE / name)

    return [Route(path, partial(page, name=name)) for path, name in FILES.items()]


def healthy(closing: bool, stuck: bool, states: list[str]) -> Response:
    """The answer to who asks for the service's health."""
    status = "closing" if closing else "stuck" if stuck else "ok"
    body = {"status": status, "videos": {state: states.count(state) for state in sorted(set(states))}}
    return JSONResponse(body, 200 if status == "ok" else 503)


async def _answered(video: Video, index: int, number: int) -> object | None:
    """The frame of this index with its labels; None where a later one has them already, or the video ends."""
    while (held := await video.latest.after(number)) is not None:
        number, labelled = held
        if labelled.result.index >= index:
            return labelled if labelled.result.index == index else None
    return None


async def _parts(video: Video) -> AsyncIterator[bytes]:
    """The overlay as it goes on, each picture a part; whoever takes long for one gets the newest next."""
    number, part = 0, b""
    while True:
        try:
            held = await asyncio.wait_for(video.latest.after(number), AGAIN_S)
        except asyncio.TimeoutError:
            yield part
            continue
        if held is None:
            return
        number, labelled = held
        picture = await video.overlay(number, labelled)
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        part = head.encode() + picture + b"\r\n"
        yield part


def _video(service: Service, request: Request) -> Video:
    try:
        return service.get(request.path_params["name"])
    except KeyError as error:
        name = request.path_params["name"]
        raise HTTPException(404, f"serve: expected an open video, got {name!r}; GET /videos lists them") from error


def object_of(body: bytes) -> dict[str, str | None]:
    """The name and source of a video to open."""
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"serve: expected a JSON object, got {len(body)} other bytes") from error
    words = ("name", "source")
    if not isinstance(asked, dict) or not all(key in words and isinstance(asked[key], str) for key in asked):
        raise HTTPException(
            400, f"serve: expected an object of {' and '.join(words)}, both strings, got {asked!r:.200}"
        )
    return asked


def _seconds(request: Request) -> float:
    words = request.query_params.get("wait", "0")
    try:
        seconds = float(words)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_S:
        raise HTTPException(400, f"serve: expected wait of 0 to {LONGEST_WAIT_S:g} seconds, got {words!r}")
    return seconds


def _form(request: Request, forms: tuple[str, ...]) -> str:
    form = request.query_params.get("labels", forms[0])
    if form not in forms:
        raise HTTPException(400, f"serve: expected labels as {' or '.join(forms)}, got {form!r}")
    return form
