"""python3 gst_camera.py PORT WIDTH HEIGHT FRAMES: an RTSP camera by GStreamer, for admin with the password s3cr@t.

It prints "ready" when it listens, and dies on the spot behind so many frames. The Python of the system runs it, which
has GStreamer's bindings.
"""

import os
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

port, width, height, frames = sys.argv[1:]
left = int(frames)


def count(pad, info):
    global left
    left -= 1
    if left < 0:
        os._exit(0)
    return Gst.PadProbeReturn.OK


def configure(factory, media):
    encoder = media.get_element().get_by_name("encoder")
    encoder.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, count)


Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "viewer")
access = GstRtspServer.RTSPAuth()
access.add_basic(GstRtspServer.RTSPAuth.make_basic("admin", "s3cr@t"), token)
server.set_auth(access)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true ! video/x-raw,format=I420,width={width},height={height},framerate=25/1 "
    "! jpegenc name=encoder ! rtpjpegpay name=pay0 )"
)
permissions = GstRtspServer.RTSPPermissions()
for permission in ("media.factory.access", "media.factory.construct"):
    permissions.add_permission_for_role("viewer", permission, True)
factory.set_permissions(permissions)
factory.connect("media-configure", configure)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
