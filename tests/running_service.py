"""The service in this process over a tiny network, on a port of its own, and clients that talk to it."""

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager

import numpy as np
from websockets.sync.client import connect

from lowlat.serve.allowed import AllowList
from lowlat.serve.history import OUTCOMES
from lowlat.serve.labelling import Labelling
from lowlat.serve.pictures import jpeg
from lowlat.serve.routes import Access
from lowlat.serve.running import listening, served
from lowlat.serve.service import Settings

SIZE = (64, 48)


class Client:
    """Speaks HTTP and WebSockets with a running service; `service` is the object behind it."""

    def __init__(self, port, service):
        self.port, self.service = port, service
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, **headers):
        """Send a request; return status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, **headers):
        status, _, data = self.ask(method, path, body, **headers)
        return status, json.loads(data) if data else None

    def socket(self, path, **options):
        """Open a WebSocket, to be used as a context manager."""
        return connect(f"ws://127.0.0.1:{self.port}/{path}", max_size=None, **options)

    def video(self, name):
        return self.json("GET", f"/videos/{name}")[1]


@contextmanager
def running(network, sources=(), *, allow=(), token=None, most_bytes=1 << 20, port=0, **settings):
    """Run a service during the block, and give a client of it."""
    listener, started, held = listening("127.0.0.1", port), threading.Event(), {}
    port = listener.getsockname()[1]

    def work():
        async def main():
            held["loop"], held["ending"] = asyncio.get_running_loop(), asyncio.Event()

            def on_start(service):
                held["service"] = service
                started.set()

            access = Access(AllowList(allow), token, most_bytes)
            chosen = Settings(**settings)
            await served(listener, made, chosen, access, sources, ending=held["ending"], on_start=on_start)

        try:
            asyncio.run(main())
        except BaseException as error:
            held["error"] = error
        finally:
            started.set()

    # Two threads that share so little work wait for each other most of the time.
    with Labelling(network, size=SIZE[::-1], cores=1) as made:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert started.wait(60)
        if "error" in held:
            raise held["error"]
        client = Client(port, held["service"])
        client.thread = thread
        client.end = lambda: held["loop"].call_soon_threadsafe(held["ending"].set)
        try:
            yield client
        finally:
            if thread.is_alive():
                client.end()
            thread.join(60)
            listener.close()
            assert not thread.is_alive(), "the service did not end"
            if "error" in held:
                raise held["error"]


def picture(level=0, size=SIZE):
    """Return a grey picture, encoded as a client sends it."""
    return jpeg(np.full((size[1], size[0], 3), level % 256, np.uint8))


def balanced(counts):
    """Whether every frame that came is accounted for."""
    return counts["captured"] == sum(counts[word] for word in (*OUTCOMES, "under_way"))
