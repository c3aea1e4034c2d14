"""Passwords in addresses, wherever an address is shown."""

import traceback

import av
import pytest
from local_cameras import HttpCamera, Refuse, RtspCamera, Show

from lowlat.video.address import hide, masked, scheme_of, shown, whole_address
from lowlat.video.source import SourceError, open_source


@pytest.mark.parametrize(
    "address, right",
    [
        ("rtsp://admin:s3cret@10.0.0.7:554/live", "rtsp://admin:***@10.0.0.7:554/live"),
        ("RTSP://Admin:S3CRET@cam", "RTSP://Admin:***@cam"),
        ("rtsp://admin:p@ss:w0rd@cam/live", "rtsp://admin:***@cam/live"),
        ("rtsp://admin:p%40ss%2Fw0rd@cam/live", "rtsp://admin:***@cam/live"),
        ("rtsp://admin:pa/ss?w#rd@cam/live", "rtsp://admin:***@cam/live"),
        ("rtsp://admin:two words@cam/live", "rtsp://admin:***@cam/live"),
        ("rtsp://me@mail.org:s3cret@cam/live", "rtsp://me@mail.org:***@cam/live"),
        ("rtsp://:s3cret@cam/live", "rtsp://:***@cam/live"),
        ("rtsp://admin%3As3cret@cam/live", "rtsp://admin%3A***@cam/live"),
        ("https://user:s3cret@[2001:db8::1]:8080/live", "https://user:***@[2001:db8::1]:8080/live"),
        ("http://cam/video?user=admin&pwd=s3cret&fps=5", "http://cam/video?user=admin&pwd=***&fps=5"),
        ("http://cam/video?USERPWD=s3cret", "http://cam/video?USERPWD=***"),
        ("http://cam/v.m3u8?access_token=abc.def", "http://cam/v.m3u8?access_token=***"),
        (
            "https://s3/v.mp4?X-Amz-Credential=me&X-Amz-Signature=ab12",
            "https://s3/v.mp4?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("srt://cam:9000?mode=caller&passphrase=s3cret", "srt://cam:9000?mode=caller&passphrase=***"),
        ("http://cam/video?loginuse=admin&loginpas=s3cret", "http://cam/video?loginuse=admin&loginpas=***"),
        ("http://cam/video?passwort=s3cret&pw=s3cret", "http://cam/video?passwort=***&pw=***"),
        ("http://cam/video?session_id=s3cret&jwt=s3cret", "http://cam/video?session_id=***&jwt=***"),
        ("rtsp://cam:554/user=admin_password=s3cret_channel=1", "rtsp://cam:554/user=admin_password=***"),
        (
            "http://proxy/?url=rtsp%3A%2F%2Fme%3As3cret%40cam%2Flive",
            "http://proxy/?url=rtsp%3A%2F%2Fme%3A***%40cam%2Flive",
        ),
        ("admin:s3cret@10.0.0.7/live", "admin:***@10.0.0.7/live"),
    ],
)
def test_a_password_is_masked_and_nothing_else(address, right):
    assert shown(address) == right
    assert masked(right) == right


@pytest.mark.parametrize(
    "plain",
    [
        "rtsp://cam:554/live",
        "http://cam:8080/clips/me@home.mp4",
        "http://[::1]:8080/a@b",
        "http://cam/video?fps=5&keys=2",
        "clip.mp4",
        "C:/clips/a@home.mp4",
        "frames 12:30 to 12:40, as in a@b",
    ],
)
def test_what_is_no_password_stays(plain):
    assert shown(plain) == plain


def test_passwords_are_masked_in_the_middle_of_a_message():
    message = "expected this, got 'rtsp://a:s3cret@cam/x' and http://b:hidden@cam:80/y; check 12:30"
    assert masked(message) == "expected this, got 'rtsp://a:***@cam/x' and http://b:***@cam:80/y; check 12:30"


def test_a_password_is_masked_as_it_is_written_and_decoded():
    told = masked("no user with s3cr@t, nor s3cr%40t", address="rtsp://a:s3cr%40t@cam")
    assert told == "no user with ***, nor ***"


@pytest.mark.parametrize(
    "spec, right",
    [
        ("rtsp:/cam/live", "rtsp://cam/live"),
        ("http:/cam/live", "http://cam/live"),
        ("rtsp://cam//live", "rtsp://cam//live"),
        ("clip.mp4", "clip.mp4"),
        ("/http:/clip.mp4", "/http:/clip.mp4"),
        ("c:/clip.mp4", "c:/clip.mp4"),
    ],
)
def test_the_slash_that_a_path_eats_comes_back(spec, right):
    assert whole_address(spec) == right


def test_schemes():
    assert (scheme_of("RTSP://cam"), scheme_of("clip.mp4"), scheme_of("c:/clip.mp4")) == ("rtsp", None, None)


@pytest.mark.parametrize("camera_of", [HttpCamera, RtspCamera])
@pytest.mark.parametrize("password", ["s3cr%40t%2Fw", "s3cr@tw", "s3cr et\tw"])
def test_an_address_that_fails_keeps_its_password_to_itself(camera_of, password):
    with camera_of([Refuse()]) as camera, pytest.raises(SourceError) as error:
        open_source(camera.at(f"admin:{password}@"))
    # FFmpeg's own error, with the address in it, is part of the traceback.
    said = "".join(traceback.format_exception(error.value))
    assert said.count("admin:***@") >= 2
    assert "s3cr" not in said and "s3cr" not in repr(error.value.__cause__)


def test_a_camera_that_is_lost_keeps_its_password_to_itself(capsys):
    with RtspCamera([Show(12), Show(12)]) as camera, pytest.raises(SourceError) as error:
        with open_source(camera.at("admin:s3cret@"), reconnect_s=0.7) as source:
            assert "s3cret" not in source.name
            list(source)
    said = capsys.readouterr().err + "".join(traceback.format_exception(error.value))
    assert "admin:***@" in said and "s3cret" not in said


def test_an_address_without_a_scheme_keeps_its_password_to_itself():
    with pytest.raises(SourceError) as error:
        open_source("admin:s3cret@10.0.0.7/live")
    assert "admin:***@10.0.0.7/live" in str(error.value)


def test_errors_that_errors_came_from_are_masked_too():
    address = "rtsp://a:s3cr%40t@cam"
    first = av.error.InvalidDataError(1, f"bad {address}", address, (16, "rtsp", "user s3cr@t unknown"))
    second = FileNotFoundError(2, "none", address)
    second.__cause__ = first
    last = SourceError("it failed")
    last.__context__ = second
    hide(last, address)
    said = "".join(traceback.format_exception(last)) + repr((first.args, second.filename))
    assert "s3cr" not in said and said.count("rtsp://a:***@cam") >= 3


def test_an_error_without_a_password_says_what_it_said():
    stall = TimeoutError("no frame within 3 s")
    hide(stall, "")
    assert str(stall) == "no frame within 3 s"


@pytest.mark.parametrize(
    "answer, mend",
    [
        ("401 Unauthorized", "check the name and password in it"),
        ("403 Forbidden", "check the name and password in it"),
        ("404 Not Found", "check what follows the server's name in it"),
        ("503 Service Unavailable", "the fault is the server's: try again later"),
    ],
)
def test_what_a_server_says_decides_what_helps(answer, mend):
    with HttpCamera([Refuse(answer)]) as camera, pytest.raises(SourceError, match=f"; {mend}$"):
        open_source(camera.address)
