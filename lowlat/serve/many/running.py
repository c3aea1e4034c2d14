"""`serve_many`: runs the ingress on an address of this machine, with replicas behind it, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lowlat.jobs.workers import connected
from lowlat.schedule import Policy
from lowlat.serve.allowed import AllowList
from lowlat.serve.log import logged_to_stderr, say
from lowlat.serve.many.ingress import Lost, Many
from lowlat.serve.many.replicas import Replicas, deployed, ended
from lowlat.serve.many.web import application
from lowlat.serve.names import check_sources, named_sources
from lowlat.serve.routes import Access
from lowlat.serve.running import answering, listening, token_in, until_signalled
from lowlat.serve.service import Settings


def serve_many(
    sources: Sequence[str] = (),
    *,
    ray: str,
    replicas: Replicas,
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
    """Serve until SIGTERM or Ctrl-C, as :func:`lowlat.serve.running.serve` does, with hubs on a Ray cluster.

    Args:
        ray: the cluster's address, or "local" for a cluster of this machine, as :func:`lowlat.jobs.workers.connected`
            takes it.
        replicas: how many hubs there are, and what each gets.

    Raises:
        ConnectionError: there is no such cluster.
        ValueError, OSError, RuntimeError: as `serve`.
    """
    access = Access(AllowList(allow), token_in(token_file, host), most_bytes)
    settings = settings or Settings()
    check_sources(sources, settings.most_videos)
    cores = None if replicas.gpus else {"cores": replicas.cores}
    arguments = (settings, most_bytes, {"weights": weights, "policy": policy, **(cores or {}), **options})
    with logged_to_stderr(log), contextlib.closing(listening(host, port)) as listener:
        with connected(ray, cores=replicas.most * replicas.cores):
            handle = deployed(replicas, *arguments)
            try:
                asyncio.run(until_signalled(partial(served_many, listener, handle, settings, access, sources)))
            finally:
                ended()


async def served_many(
    listener: socket.socket,
    handle: Any,
    settings: Settings,
    access: Access,
    sources: Sequence[str],
    *,
    ending: asyncio.Event,
    on_start: Callable[[Many], None] = lambda many: None,
) -> None:
    """Serve on a socket that is bound, until ``ending`` is set.

    Args:
        handle: of the replicas, as `deployed` gives it.
        on_start: called once requests are answered.
    """
    many = Many(handle, settings)
    await many.look()
    watching = asyncio.create_task(many.watch())
    try:
        for name, spec in named_sources(sources):
            try:
                await many.open(spec, name)
            except Lost as error:
                raise RuntimeError("serve: expected a replica that answers, got none; look at Ray's log") from error
        app = application(many, access)
        async with answering(listener, app, access, ending, partial(on_start, many)):
            say("closing", videos=len(many.placed))
            await many.close()
    finally:
        watching.cancel()
    say("closed")
