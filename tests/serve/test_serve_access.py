"""Who may ask the service for what: nothing is open that nobody opened."""

import http.client
import io
import json
import os

import pytest
from PIL import Image
from running_service import picture, running
from waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from lowlat.serve.allowed import AllowList
from lowlat.serve.running import token_in

TOKEN = "0123456789abcdef"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def service(tiny_network, clip):
    with running(tiny_network, most_bytes=20_000, most_videos=2) as client:
        yield client


@pytest.fixture(scope="module")
def closed_service(tiny_network):
    with running(tiny_network, token=TOKEN) as client:
        client.json("POST", "/videos", {"name": "mine"}, Authorization=f"Bearer {TOKEN}")
        yield client


def test_without_the_token_there_is_health_alone(closed_service):
    assert closed_service.json("GET", "/healthz")[0] == 200
    paths = ("/", "/page.js", "/metrics", "/videos", "/videos/mine", "/videos/mine/overlay.mjpg", "/nothing")
    for path in paths:
        for wrong in ({}, {"Authorization": "Bearer 0123456789abcdeg"}, {"Cookie": "lowlat_token=wrong"}):
            assert closed_service.ask("GET", path, **wrong)[0] == 401, path
        assert closed_service.ask("GET", f"{path}?token=wrong")[0] == 401
    assert closed_service.ask("POST", "/videos", {"name": "other"})[0] == 401
    assert closed_service.ask("DELETE", "/videos/mine")[0] == 401
    for path in ("events", "videos/mine/results", "videos/mine/pictures", "videos/mine/frames"):
        with pytest.raises(InvalidStatus, match="403"), closed_service.socket(path):
            pass


def test_the_token_opens_everything_in_three_ways(closed_service):
    ways = (
        {"Authorization": f"Bearer {TOKEN}"},
        {"Cookie": f"other=1; lowlat_token={TOKEN}"},
    )
    for way in ways:
        assert closed_service.json("GET", "/videos", **way)[1][0]["name"] == "mine"
        with closed_service.socket("events", additional_headers=way) as socket:
            assert socket.recv(timeout=60)
    assert closed_service.json("GET", f"/videos?token={TOKEN}")[0] == 200


def test_the_page_takes_the_token_from_its_address_into_a_cookie(closed_service):
    status, headers, body = closed_service.ask("GET", "/")
    assert status == 401 and b'name="token"' in body
    status, headers, _ = closed_service.ask("GET", f"/?token={TOKEN}")
    assert (status, headers["location"]) == (303, "/") and TOKEN not in headers["location"]
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert closed_service.ask("GET", "/", Cookie=cookie.partition(";")[0])[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_machines_need_a_token(host, tmp_path):
    with pytest.raises(ValueError, match="--token-file"):
        token_in(None, host)
    short = tmp_path / "short"
    short.write_text("secret\n")
    with pytest.raises(ValueError, match="at least 16"):
        token_in(short, host)
    good = tmp_path / "good"
    good.write_text(f"{TOKEN}\n")
    assert token_in(good, host) == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_this_machine_needs_none(host):
    assert token_in(None, host) is None


def test_a_name_that_leads_here_from_elsewhere_is_refused(service):
    """A page of another site, whose name is made to mean this machine, must not read the service."""
    assert service.ask("GET", "/videos", Host="evil.example")[0] == 421
    assert service.ask("GET", "/videos", Host="127.0.0.2")[0] == 200, "it may listen there"
    assert service.ask("GET", "/videos", Host="[")[0] == 400
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
    assert service.ask("GET", "/events", Host="evil.example", **upgrade, **key)[0] == 403


def test_a_page_of_another_site_can_neither_change_nor_watch(service):
    evil = {"Origin": "https://evil.example"}
    assert service.ask("POST", "/videos", {"name": "other"}, **evil)[0] == 403
    with pytest.raises(InvalidStatus, match="403"), service.socket("events", additional_headers=evil):
        pass
    assert service.ask("POST", "/videos", {"name": "other"}, Origin="http://[")[0] == 400
    own = {"Origin": service.address}
    assert service.ask("POST", "/videos", {"name": "own"}, **own)[0] == 201
    assert service.ask("DELETE", "/videos/own", **own)[0] == 204


def test_answers_can_not_be_framed_or_taken_for_something_else(service):
    headers = service.ask("GET", "/")[1]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


def test_sources_of_requests_are_refused_where_none_is_allowed(service, clip):
    for source in (str(clip), "/etc/passwd", "0", "rtsp://192.168.1.20/live", "http://169.254.169.254/", "-", ""):
        status, answer = service.json("POST", "/videos", {"source": source})
        assert status == 403 and "--allow-source" in answer["error"]
    assert service.json("GET", "/videos")[1] == []


def test_what_is_allowed_can_be_opened(tiny_network, clip):
    with running(tiny_network, allow=[str(clip.parent)]) as client:
        assert client.json("POST", "/videos", {"source": str(clip)})[0] == 201
        until(lambda: client.video("clip")["counts"]["labelled"], "labels")
        status, answer = client.json("POST", "/videos", {"source": f"{clip.parent}/../{clip.parent.name}/none.mp4"})
        assert status == 403, answer
        bad = clip.parent / "bad.mp4"
        bad.write_bytes(b"no video")
        assert client.json("POST", "/videos", {"source": str(bad)})[0] == 400


ALLOWED = ("rtsp://cam.local/live", "http://10.0.0.5:8080/", "2")


@pytest.mark.parametrize(
    "source",
    ["rtsp://cam.local/live", "rtsp://user:pw@cam.local:554/live/1?x=1", "http://10.0.0.5:8080/video.mjpg", "2"],
)
def test_addresses_below_an_allowed_one_pass(source):
    AllowList(ALLOWED).check(source)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://cam.local/other",
        "rtsp://cam.local/livestock",
        "rtsp://cam.local/live/../other",
        "rtsp://cam.local/live/%2e%2e/other",
        "rtsp://cam.local:555/live",
        "rtsp://cam.local@evil.example/live",
        "rtsp://evil.example@cam.local@evil.example/live",
        "rtsp://evil.example\\@cam.local/live",
        "rtsp://evil.example#@cam.local/live",
        "rtsp://cam.local.evil.example/live",
        "rtsp://cam.local/live\r\nHost: evil",
        "http://cam.local/live",
        "https://10.0.0.5:8080/video",
        "http://10.0.0.5/video",
        "http://[::ffff:10.0.0.5]:8080/",
        "http://10.0.0.5:80800000/",
        "file:///etc/passwd",
        "concat:http://10.0.0.5:8080/|/etc/passwd",
        "0",
        "/etc/passwd",
        "img%03d.png",
    ],
)
def test_other_addresses_do_not(source):
    with pytest.raises(PermissionError, match="allow-source"):
        AllowList(ALLOWED).check(source)


def test_a_link_out_of_an_allowed_folder_leads_nowhere(tmp_path):
    inside, secret = tmp_path / "videos", tmp_path / "secret.mp4"
    inside.mkdir()
    secret.write_bytes(b"x")
    os.symlink(secret, inside / "link.mp4")
    with pytest.raises(PermissionError):
        AllowList([str(inside)]).check(str(inside / "link.mp4"))
    with pytest.raises(PermissionError):
        AllowList([str(inside)]).check(str(inside / ".." / "secret.mp4"))
    # What it says does not tell whether there is such a file.
    with pytest.raises(PermissionError) as there:
        AllowList([]).check(str(secret))
    with pytest.raises(PermissionError) as missing:
        AllowList([]).check(str(secret).replace("secret", "nosuch"))
    assert str(there.value).replace("secret", "nosuch") == str(missing.value)


def test_bodies_are_bounded(service):
    service.json("POST", "/videos", {"name": "big"})
    assert service.json("POST", "/videos/big/frames", b"x" * 20_001)[0] == 413
    # Without a length it shows on the way.
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("POST", "/videos/big/frames", iter([b"x" * 15_000] * 2), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    with service.socket("videos/big/frames") as socket, pytest.raises(ConnectionClosed, match="1009"):
        socket.send(b"x" * 20_001)
        socket.recv(timeout=60)
    service.ask("DELETE", "/videos/big")


def test_pictures_that_are_none_are_refused(service):
    service.json("POST", "/videos", {"name": "bad"})
    status, answer = service.json("POST", "/videos/bad/frames", b"GIF89a nonsense")
    assert status == 400 and "expected a JPEG, PNG or WebP" in answer["error"] and "object at" not in answer["error"]
    status, answer = service.json("POST", "/videos/bad/frames", picture()[:200])
    assert status == 400
    # A small file that is large when it is decoded.
    bomb = io.BytesIO()
    Image.new("1", (6000, 6000)).save(bomb, "png")
    assert len(bomb.getvalue()) < 20_000
    status, answer = service.json("POST", "/videos/bad/frames", bomb.getvalue())
    assert status == 400 and "6000x6000" in answer["error"]
    assert service.video("bad")["counts"]["captured"] == 0
    service.ask("DELETE", "/videos/bad")


def test_videos_are_bounded_and_their_names_plain(service):
    assert service.json("POST", "/videos", {"name": "one"})[0] == 201
    assert service.json("POST", "/videos", {"name": "one"})[0] == 400
    assert service.json("POST", "/videos", {"name": "../x"})[0] == 400
    assert service.json("POST", "/videos", {"name": "two"})[0] == 201
    status, answer = service.json("POST", "/videos", {"name": "three"})
    assert status == 409 and "--max-videos" in answer["error"]
    with service.socket("videos/four/frames") as socket, pytest.raises(ConnectionClosed, match="4409"):
        socket.recv(timeout=60)
    for name in ("one", "two"):
        assert service.ask("DELETE", f"/videos/{name}")[0] == 204
    assert service.ask("DELETE", "/videos/one")[0] == 404


@pytest.mark.parametrize("body", [b"[]", b"{", b"[" * 15_000, b'{"name": 1}', b'{"path": "x"}'])
def test_objects_that_are_none_are_refused(service, body):
    assert service.json("POST", "/videos", body)[0] == 400


def test_words_that_are_none_are_refused(service):
    service.json("POST", "/videos", {"name": "words"})
    assert service.json("POST", "/videos/words/frames?wait=soon", picture())[0] == 400
    assert service.json("POST", "/videos/words/frames?wait=1e9", picture())[0] == 400
    assert service.json("POST", "/videos/words/frames?labels=gif", picture())[0] == 400
    with service.socket("videos/words/results?labels=gif") as socket, pytest.raises(ConnectionClosed, match="4400"):
        socket.recv(timeout=60)
    with service.socket("videos/none/results") as socket, pytest.raises(ConnectionClosed, match="4404"):
        socket.recv(timeout=60)
    assert service.json("GET", "/videos/words/overlay.jpg")[0] == 404
    # Text where bytes should be, and the other way round.
    with service.socket("videos/words/frames") as socket, pytest.raises(ConnectionClosed, match="4400"):
        socket.send("a picture")
        socket.recv(timeout=60)
    with service.socket("events") as socket:
        socket.send(b"anything")
        assert [json.loads(socket.recv(timeout=60))["videos"][0]["name"] for _ in range(3)] == ["words"] * 3
    service.ask("DELETE", "/videos/words")
