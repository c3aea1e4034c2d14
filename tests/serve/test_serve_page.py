"""The page in a real browser: it shows labels that move, and comes back when the service or a source does."""

import numpy as np
import pytest
from browser import chromium, page_of
from local_cameras import HttpCamera, Refuse, Show
from PIL import Image
from running_service import running
from screenshot import screenshot
from waiting import until

# Thorough: `make test` asks nobody to install a browser, `make check` installs one.
pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_thread")]
PIXELS = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].join()"


@pytest.fixture(scope="module")
def service(tiny_network, clip):
    with running(tiny_network, [f"gate={clip}"]) as client:
        yield client


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, service):
    with page_of(browser, service.address) as page:
        page.wait_for_selector("canvas[data-index]")
        yield page


def index_of(page):
    return int(page.get_attribute("canvas", "data-index"))


def test_the_page_shows_labels_that_move(page):
    canvas, first = page.locator("canvas"), index_of(page)
    before = canvas.evaluate(PIXELS)
    until(lambda: index_of(page) > first + 3, "pictures that go on")
    assert canvas.evaluate("canvas => [canvas.width, canvas.height]") == [64, 48]
    until(lambda: canvas.evaluate(PIXELS) != before, "a picture that changes")
    assert page.locator(".state").inner_text() == "live" and page.inner_text("#connection") == "connected"
    assert page.errors == []


def test_the_picture_is_the_frame_under_its_labels(page, service):
    """Without labels the clip's grey frames are seen; with nothing else, the colours of the classes."""
    average = f"canvas => {{ const data = ({PIXELS})(canvas).split(','); return data.slice(0, 3).map(Number) }}"

    def corner(opacity):
        page.locator("#opacity").fill(str(opacity))
        return page.locator("canvas").evaluate(average)

    until(lambda: max(grey := corner(0)) - min(grey) < 12, "a grey frame")
    palette = [list(colour) for colour in service.service.classes.palette]
    until(lambda: corner(100) in palette, "the colour of a class")
    corner(55)


def test_figures_and_legend_are_those_of_the_service(page, service):
    names = list(service.service.classes.names)
    assert page.locator("#classes li").all_inner_texts() == names
    value = lambda name: page.inner_text(f"[data-figure='{name}'] dd")  # noqa: E731
    until(lambda: int(value("labelled")) > 10, "frames that are counted")
    assert int(value("labelled")) <= service.video("gate")["counts"]["labelled"]
    assert value("median").endswith(" ms") and value("whole network").endswith(" ms")
    until(lambda: int(value("key frames")) > 0 and int(value("landings")) > 0, "key frames")
    for mark in ("path.fast", "line.baseline", "line.key", "path.landed"):
        until(lambda mark=mark: page.locator(f"article svg {mark}").count() > 0, mark)


def test_the_page_can_be_read_and_worked_without_eyes_or_mouse(page, service):
    label = until(lambda: page.get_attribute("canvas", "aria-label"), "a description")
    until(lambda: "%" in page.get_attribute("canvas", "aria-label"), "shares in words")
    assert label.startswith("Labelled picture of gate")
    assert "median" in page.get_attribute("article svg", "aria-label")
    assert page.get_attribute("article", "aria-labelledby") == "video-gate"
    reached = set()
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))
    assert {"camera", "Close gate"} <= reached and any("Opacity" in name for name in reached)
    unnamed = "[...document.querySelectorAll('button, input')].filter(e => !(e.labels?.length || e.textContent.trim()))"
    assert page.evaluate(f"{unnamed}.length") == 0


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out_in_dark_and_light(page, scheme):
    """Contrast of 4.5 at least, as WCAG 2 asks of text."""
    page.emulate_media(color_scheme=scheme)
    contrast = """name => {
      const style = getComputedStyle(document.documentElement);
      const light = (name) => {
        const hex = style.getPropertyValue(name).trim().slice(1).match(/../g).map((h) => parseInt(h, 16) / 255);
        const [r, g, b] = hex.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [low, high] = [light(name), light('--card')].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    }"""
    for name in ("--text", "--dim", "--bad", "--fast", "--baseline", "--bound", "--key", "--landed"):
        assert page.evaluate(contrast, name) >= 4.5, name


def test_nothing_is_asked_of_other_places(page):
    names = page.evaluate("performance.getEntriesByType('resource').map(entry => new URL(entry.name).host)")
    assert set(names) == {page.evaluate("location.host")}


def test_the_browsers_own_camera_becomes_a_video_and_goes_again(page, service):
    page.click("#camera")
    until(lambda: page.locator("article").count() == 2, "a second card")
    canvas = page.locator("article:nth-child(2) canvas")
    until(lambda: int(canvas.get_attribute("data-index") or 0) > 3, "pictures of the camera")
    assert page.inner_text("#message") == ""
    page.click("#camera")
    until(lambda: page.locator("article").count() == 1, "the camera's card gone")
    until(lambda: len(service.service.videos()) == 1, "the camera's video gone")


def test_a_source_that_dies_and_comes_back_is_told(page, service):
    script = [Show(5, fps=20), Refuse(), Show(10_000, fps=20)]
    with HttpCamera(script) as camera:
        service.service.open(camera.at("admin:s3cret@"), "yard")
        card = page.locator("article", has=page.locator("#video-yard"))
        until(lambda: card.locator(".state").inner_text() == "lost, trying again", "the loss told")
        assert "stale" in card.locator(".picture").get_attribute("class")
        until(lambda: card.locator(".state").inner_text() == "live", "the return told")
        assert camera.connections == 3
        assert "admin:***@" in card.locator(".source").inner_text() and "s3cret" not in page.content()
        card.locator(".close").click()
        until(lambda: page.locator("article").count() == 1, "the card gone")


def test_a_source_can_be_opened_from_the_page_where_it_may(browser, tiny_network, clip):
    with running(tiny_network, allow=[str(clip)]) as client, page_of(browser, client.address) as page:
        until(lambda: page.is_visible("#source"), "the form")
        page.fill("#source", "/etc/passwd")
        page.keyboard.press("Enter")
        until(lambda: "--allow-source" in page.inner_text("#message"), "the refusal")
        page.fill("#source", str(clip))
        page.keyboard.press("Enter")
        until(lambda: page.locator("canvas[data-index]").count() == 1, "the video")


def test_the_command_with_a_clip_and_nothing_else_shows_its_labels(browser, tmp_path):
    """With the shipped network, as after an install."""
    path = tmp_path / "page.png"
    about = screenshot(browser, path, frames=3)
    assert about["state"] == "live" and about["size"] == [640, 272]
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(picture, axis=0)) > 5000, "a street under colours"


def test_the_page_survives_a_restart_of_the_service(browser, tiny_network, clip):
    with running(tiny_network, [f"gate={clip}"]) as client, page_of(browser, client.address) as page:
        page.wait_for_selector("canvas[data-index]")
        port = client.port
        client.end()
        until(lambda: "connection lost" in page.inner_text("#connection"), "the loss told")
        until(lambda: not client.thread.is_alive(), "the end")
        with running(tiny_network, [f"gate={clip}"], port=port):
            until(lambda: page.inner_text("#connection") == "connected", "the page back")
            before = index_of(page)
            until(lambda: index_of(page) != before, "pictures that go on")
            assert page.locator(".state").inner_text() == "live" and page.errors == []
