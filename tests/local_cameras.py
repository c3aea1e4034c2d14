"""Cameras on this machine: an HTTP and an RTSP server, each with a script that says what every connection gets.

    with HttpCamera([Show(10), Refuse(), Show(10, size=(96, 64))]) as camera:
        open_source(camera.address)

A script has one entry for each connection; after its end every connection is refused. So a test says when a camera dies
and what it is when it is back, without a clock.
"""

import io
import itertools
import socketserver
import struct
import threading
import time
from dataclasses import dataclass

import av
import numpy as np
from PIL import Image

SIZE = (64, 48)


@dataclass(frozen=True)
class Show:
    """A number of grey frames, of which the n-th of all connections has level 10 n; then the server hangs up, falls
    silent, or sends parts that are no pictures (only by HTTP)."""

    frames: int
    size: tuple[int, int] = SIZE
    silent: bool = False
    noisy: bool = False
    fps: float = 100.0


@dataclass(frozen=True)
class Refuse:
    """No video; an HTTP server says why."""

    why: str = "503 Service Unavailable"


class Camera:
    """The common part of both servers. `connections` counts those that were answered from the script."""

    scheme = path = ""

    def __init__(self, script):
        self._script = iter(script)
        self._levels = itertools.count()
        self._closing = threading.Event()
        self.connections = 0
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    camera.serve(self)
                except OSError:
                    # The client has gone.
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, block_on_close = True, False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.address = self.at("")

    def at(self, user):
        """Return the address, with "user:password@" in it."""
        return f"{self.scheme}://{user}127.0.0.1:{self.port}/{self.path}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def next_line(self):
        self.connections += 1
        return next(self._script, Refuse())

    def pictures(self, show):
        """Yield the frames of a connection, each when its time has come; the silence after them lasts until the test's
        end."""
        width, height = show.size
        began = time.monotonic()
        for number in range(show.frames):
            self._closing.wait(max(0.0, began + number / show.fps - time.monotonic()))
            yield np.full((height, width, 3), next(self._levels) * 10 % 256, np.uint8)
        if show.silent:
            self._closing.wait()


class HttpCamera(Camera):
    """Serves Motion JPEG over HTTP as cameras do: parts of one answer that never ends."""

    scheme, path = "http", "video"

    def serve(self, handler):
        while handler.rfile.readline().strip():
            pass
        line = self.next_line()
        if isinstance(line, Refuse):
            handler.wfile.write(f"HTTP/1.1 {line.why}\r\nConnection: close\r\n\r\n".encode())
            return
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n")
        for picture in self.pictures(line):
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "jpeg", quality=90)
            self._part(handler.wfile, data.getvalue())
        while line.noisy and not self._closing.wait(1 / line.fps):
            self._part(handler.wfile, bytes(range(256)))

    def _part(self, wire, data):
        head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        wire.write(head.encode() + data + b"\r\n")


class RtspCamera(Camera):
    """Serves MPEG-2 in a transport stream in RTP in RTSP, over one connection."""

    scheme, path = "rtsp", "live"
    _SDP = (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=live\r\nt=0 0\r\na=range:npt=now-\r\n"
        "m=video 0 RTP/AVP 33\r\na=control:track\r\n"
    )
    _PACKETS = 7 * 188

    def serve(self, handler):
        line = None
        while words := handler.rfile.readline().split():
            fields = {}
            while field := handler.rfile.readline().strip().decode():
                name, _, value = field.partition(":")
                fields[name.lower()] = value.strip()
            method, answer, body = words[0].decode(), {"CSeq": fields["cseq"], "Session": "1"}, ""
            if method == "OPTIONS":
                answer["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
            elif method == "DESCRIBE":
                line = self.next_line()
                if isinstance(line, Refuse):
                    handler.wfile.write(f"RTSP/1.0 404 Not Found\r\nCSeq: {fields['cseq']}\r\n\r\n".encode())
                    return
                body = self._SDP
                answer |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
            elif method == "SETUP":
                answer["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
            head = "".join(f"{name}: {value}\r\n" for name, value in answer.items())
            handler.wfile.write(f"RTSP/1.0 200 OK\r\n{head}\r\n{body}".encode())
            if method == "PLAY":
                self._play(handler.wfile, line)
                return
            if method == "TEARDOWN":
                return

    def _play(self, wire, show):
        sequence = itertools.count()
        held = io.BytesIO()
        # Without intermediate frames the decoder holds none back.
        with av.open(held, "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = *show.size, "yuv420p"
            stream.gop_size = 1
            for number, picture in enumerate(self.pictures(show)):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
                self._send(wire, held, sequence)
            container.mux(stream.encode(None))
        self._send(wire, held, sequence)

    def _send(self, wire, held, sequence):
        data = held.getvalue()
        held.seek(0)
        held.truncate()
        for start in range(0, len(data), self._PACKETS):
            number = next(sequence)
            head = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, number * 3600, 1)
            part = data[start : start + self._PACKETS]
            wire.write(b"$\0" + struct.pack("!H", len(head + part)) + head + part)
