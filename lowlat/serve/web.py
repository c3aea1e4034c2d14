"""The service of one hub over HTTP: the videos, frames in, pictures out, health and figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lowlat.serve.metrics import CONTENT_TYPE, Metrics
from lowlat.serve.pictures import label_png
from lowlat.serve.routes import Access, Answers, asked_video, healthy, refusals, routed, unknown
from lowlat.serve.service import Service, Video, result_of
from lowlat.serve.sockets import sockets
from lowlat.video.labels import runs_of

BOUNDARY = "lowlat-picture"
AGAIN_S = 5.0
"""Seconds after which an overlay stream sends its last picture again, which shows whether its client has gone."""
LONGEST_WAIT_S = 60.0


def application(service: Service, access: Access) -> Starlette:
    """Make the ASGI application of a service, HTTP and WebSockets."""
    metrics = Metrics(lambda: [video.about() for video in service.videos()])

    async def health(request: Request) -> Response:
        stuck = any(video.stuck for video in service.videos())
        return healthy(service.closing, stuck, [video.state[0] for video in service.videos()])

    async def figures(request: Request) -> Response:
        return Response(await run_in_threadpool(metrics.text), media_type=CONTENT_TYPE)

    async def listed(request: Request) -> Response:
        return JSONResponse([video.about() for video in service.videos()])

    async def opened(request: Request) -> Response:
        spec, name = asked_video(await request.body(), access)
        with refusals():
            video = await run_in_threadpool(service.open, spec, name)
        return JSONResponse(video.about(), 201)

    async def about(request: Request) -> Response:
        return JSONResponse(_video(service, request).about())

    async def closed(request: Request) -> Response:
        name = _video(service, request).name
        try:
            await run_in_threadpool(service.close_video, name)
        except KeyError as error:
            raise unknown(name) from error
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

    answers = Answers(
        health=health,
        figures=figures,
        listed=listed,
        opened=opened,
        about=about,
        closed=closed,
        posted=posted,
        still=still,
        stream=stream,
        **sockets(service, access.allowed),
    )
    return routed(answers, access)


async def _answered(video: Video, index: int, number: int) -> object | None:
    """Wait for the frame of this index with its labels; None if a later one has them already, or the video ends."""
    while (held := await video.latest.after(number)) is not None:
        number, labelled = held
        if labelled.result.index >= index:
            return labelled if labelled.result.index == index else None
    return None


async def _parts(video: Video) -> AsyncIterator[bytes]:
    """Yield the overlay of each frame as a part of a multipart body. A slow client gets the newest picture next."""
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
        raise unknown(request.path_params["name"]) from error


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
