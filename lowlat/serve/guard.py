"""`Guard`, an ASGI middleware that sees every request first: it checks who asks, from which page, and how much is
sent."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from lowlat.serve.log import say

COOKIE = "lowlat_token"
OPEN_PATHS = ("/healthz",)
"""What is answered without a token: it tells nothing of the videos."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; media-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_ASK = """<!doctype html><html lang="en"><meta charset="utf-8"><title>lowlat: token</title>
<form action="/"><label>Token of this service <input name="token" type="password" autocomplete="current-password"
autofocus required></label> <button>Open</button></form></html>"""


def is_local(host: str) -> bool:
    """Whether an address, which the service listens on or a request was sent to, is reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets requests pass to the service, or refuses them.

    Args:
        app: the service.
        token: the token that every request must show, as a bearer token, a cookie, or ``?token=``; None if only this
            machine can ask.
        most_bytes: the most bytes of a request's body.
    """

    def __init__(self, app: Any, *, token: str | None = None, most_bytes: int = 8 << 20) -> None:
        self._app, self._token, self._most_bytes = app, token, most_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        await self._answer(scope, receive, send, headers, refusal)

    async def _answer(self, scope: Any, receive: Any, send: Any, headers: Headers, refusal: Response | None) -> None:
        """Answer over HTTP, with the headers that every answer has and a line in the log."""
        began, status, taken = time.monotonic(), 0, 0

        async def counted() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most_bytes:
                raise HTTPException(413, self._too_long())
            return message

        async def headed(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found.setdefault(name, value)
            await send(message)

        try:
            await (refusal or self._app)(scope, counted, headed)
        finally:
            about = {"method": scope["method"], "path": scope["path"], "status": status}
            level = logging.INFO if status >= 400 or scope["method"] not in ("GET", "HEAD") else logging.DEBUG
            say("request", level=level, **about, seconds=round(time.monotonic() - began, 3))

    def _refusal(self, scope: Any, headers: Headers) -> Response | None:
        """Return why a request does not pass; None if it does."""
        asked_of, origin = headers.get("host", ""), headers.get("origin")
        try:
            host, page = urlsplit(f"//{asked_of}"), urlsplit(origin or "")
        except ValueError:
            return _error(400, f"serve: expected addresses as Host and Origin, got {asked_of!r} and {origin!r}")
        # Under a name that leads here, a page of another site could ask whatever a browser on this machine can.
        if self._token is None and not is_local(host.hostname or ""):
            return _error(421, f"serve: expected a Host of this machine, got {asked_of!r}; use 127.0.0.1")
        if scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD"):
            if origin is not None and page.netloc != host.netloc:
                return _error(403, f"serve: expected a request of this service's own page, got one of {origin!r}")
        if self._token is not None and scope["path"] not in OPEN_PATHS:
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if scope["path"] == "/" and self._fits(asked):
                answer = RedirectResponse("/", 303)
                answer.set_cookie(COOKIE, self._token, httponly=True, samesite="lax", path="/")
                return answer
            if not self._fits([*asked, *_shown_in(headers)]):
                if scope["path"] == "/":
                    return HTMLResponse(
                        _ASK, 401, {"Content-Security-Policy": "default-src 'none'; form-action 'self'"}
                    )
                words = "serve: expected the token of this service, got another or none; send Authorization: Bearer"
                return _error(401, words, {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if scope["type"] == "http" and length.isdecimal() and int(length) > self._most_bytes:
            return _error(413, self._too_long())
        return None

    def _too_long(self) -> str:
        return f"serve: expected at most {self._most_bytes} bytes, got more; send less, or raise --max-bytes"

    def _fits(self, words: Sequence[str]) -> bool:
        return any(hmac.compare_digest(word.encode(), self._token.encode()) for word in words)


def _shown_in(headers: Headers) -> list[str]:
    """Return the tokens that a request's headers show."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    shown = [bearer.strip()] if scheme.lower() == "bearer" else []
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return shown
    return [*shown, cookies[COOKIE].value] if COOKIE in cookies else shown


def _error(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": words}, status, headers)
