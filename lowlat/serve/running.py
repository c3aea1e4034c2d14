"""`serve`: runs the service on an address of this machine, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from lowlat.jobs.cameras import in_one_line
from lowlat.jobs.live import steady_process
from lowlat.schedule import Policy
from lowlat.serve.allowed import AllowList
from lowlat.serve.guard import is_local
from lowlat.serve.labelling import Labelling
from lowlat.serve.log import logged_to_stderr, say
from lowlat.serve.names import check_sources, named_sources
from lowlat.serve.routes import Access
from lowlat.serve.service import Service, Settings
from lowlat.serve.web import application

SEND_BUFFER = 128 << 10
"""Bytes that the kernel holds for a client that does not read: what lies there grows old."""
MOST_CONNECTIONS = 200
LINGER_S = 5
"""Seconds that answers under way get at the end."""
SHORTEST_TOKEN = 16


def token_in(path: str | Path | None, host: str) -> str | None:
    """Read the token in a file. Without a file return None, which only a service for this machine alone may do.

    Raises:
        ValueError: a token is missing or too short.
        OSError: the file can't be read.
    """
    if path is None:
        if not is_local(host):
            raise ValueError(
                f"serve: expected --token-file beside --host {host}, which other machines reach, got none; write a "
                "secret to a file: python -c 'import secrets; print(secrets.token_urlsafe())' > token"
            )
        return None
    token = Path(path).read_text(errors="replace").strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"serve: expected a token of at least {SHORTEST_TOKEN} ASCII characters in {str(path)!r}, got {len(token)} "
            "characters; write another"
        )
    return token


def serve(
    sources: Sequence[str] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    allow: Sequence[str] = (),
    most_bytes: int = 8 << 20,
    settings: Settings | None = None,
    log: str | None = None,
    weights: Any = "lite",
    policy: Policy | None = None,
    **options: Any,
) -> None:
    """Serve until SIGTERM or Ctrl-C. Then the frames that are here get their labels, and viewers are disconnected.

    Args:
        sources: the sources to open at the start, each as `open_source` takes it, or ``NAME=SOURCE``.
        host, port: the address to listen on; port 0 takes a free one.
        token_file: a file with the token that requests must show.
        allow: the sources that requests may open, as `AllowList` takes them.
        most_bytes: the most bytes of a request's body.
        settings: how sources are read.
        log: "text" or "json".
        weights, policy, options: as in `Labelling`.

    Raises:
        ValueError: a source that can't be opened, or a wrong option.
        OSError: the address is in use, or is not this machine's.
        RuntimeError: there is no such GPU.
    """
    access = Access(AllowList(allow), token_in(token_file, host), most_bytes)
    settings = settings or Settings()
    check_sources(sources, settings.most_videos)
    with logged_to_stderr(log), contextlib.closing(listening(host, port)) as listener:
        # The whole network is loaded and timed before the first answer: on a slow machine that takes a while.
        say("starting: the network is loaded and timed first")
        with Labelling(weights, policy=policy, **options) as made, steady_process():
            asyncio.run(until_signalled(partial(served, listener, made, settings, access, sources)))


async def until_signalled(run: Callable[..., Awaitable[None]]) -> None:
    """Await ``run(ending=...)``, an event that SIGTERM and Ctrl-C set."""
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = signal.SIGTERM, signal.SIGINT

    def end() -> None:
        ending.set()
        # A second signal ends the program at once.
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, end)
    await run(ending=ending)


async def served(
    listener: socket.socket,
    labelling: Labelling,
    settings: Settings,
    access: Access,
    sources: Sequence[str],
    *,
    ending: asyncio.Event,
    on_start: Callable[[Service], None] = lambda service: None,
) -> None:
    """Serve on a socket that is bound, until ``ending`` is set.

    Args:
        on_start: called once requests are answered.
    """
    with Service(labelling, settings) as service:
        for name, spec in named_sources(sources):
            await asyncio.to_thread(service.open, spec, name)
        app = application(service, access)
        async with answering(listener, app, access, ending, partial(on_start, service)):
            say("closing", videos=len(service.videos()))
            await asyncio.to_thread(service.close)
    say("closed")


@contextlib.asynccontextmanager
async def answering(
    listener: socket.socket, app: Any, access: Access, ending: asyncio.Event, on_start: Callable[[], None]
) -> AsyncIterator[None]:
    """Have an application answer on a socket that is bound until ``ending`` is set; then the block runs, with requests
    still answered."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=LINGER_S,
        ws_max_size=access.most_bytes,
        ws_per_message_deflate=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    waiting = asyncio.create_task(ending.wait())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    host, port = listener.getsockname()[:2]
    say("serving", address=f"http://{f'[{host}]' if ':' in host else host}:{port}/", token=access.token is not None)
    on_start()
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    yield
    server.should_exit = True
    waiting.cancel()
    await serving


class _Server(uvicorn.Server):
    """A server whose signals the service handles itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listening(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address of this machine; OSError if that can't be done."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise OSError(
            f"serve: expected an address to listen on, got {host} port {port}: {in_one_line(error)}; choose another "
            "with --host or --port"
        ) from error
