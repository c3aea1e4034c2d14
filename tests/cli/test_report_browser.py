"""The page of a run in a real browser, from a file and without a network: hovering, zooming, keys, print, no script."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from browser import chromium
from waiting import until

import lowlat.jobs.report.page as page_module
from lowlat.jobs.report.compare import compare
from lowlat.jobs.report.page import write_run
from lowlat.jobs.report.record import make_report
from lowlat.video.sink import VideoSink

# Thorough: `make test` asks nobody to install a browser, `make check` installs one.
pytestmark = pytest.mark.thorough
FRAMES, SIZE = 100, (64, 48)
VIEWBOX = "document.querySelector('.latency svg').getAttribute('viewBox').split(' ').map(Number)"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run whose values tell where they belong: frame n took 10 + n ms, frames 40 to 42 were dropped."""
    folder = tmp_path_factory.mktemp("run ä'1")
    with VideoSink(folder / "out.mp4", SIZE, 25) as sink:
        for index in range(FRAMES):
            sink.write(np.full((*SIZE[::-1], 3), 2 * index, np.uint8))
    rows = [
        {
            "index": index,
            "time_s": index / 25,
            "latency_ms": 10.0 + index,
            "stages_ms": {"lower": index / 4, "propagate": 2.5},
            "key": index % 5 == 0,
            "landed": index - 3 if index % 5 == 3 and index > 5 else None,
            "age": index % 5 + 3,
            "degraded": 60 <= index < 64,
            "startup": index == 0,
        }
        for index in range(FRAMES)
        if index not in (40, 41, 42)
    ]
    figures = {"input": "cam <1>", "output": "out.mp4", "width": 64, "height": 48, "interrupted": False, "frames": 97}
    figures |= {"median_ms": 59.5, "p99_ms": 109.0, "max_ms": 109.0, "startup_ms": 10.0, "dropped": 3}
    figures |= {"key_frames": 18, "landings": 18, "degraded": 4, "failures": 0}
    figures |= {"landing_delay_frames": 3.0, "landing_delay_max": 3}
    files = {"overlay": "out.mp4", "trace": "trace.json", "settings": {"weights": "lite", "fps": None}}
    write_run(folder, make_report("segment", figures, rows, "per_frame", **files))
    return folder


@contextmanager
def opened(browser, path, **options):
    """The page of a file; `asked` are the addresses that it loads, `told` what the console says."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, "offline": True, **options})
    page = context.new_page()
    page.asked, page.told = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    try:
        page.goto(path.as_uri())
        yield page
        assert page.told == []
        assert all(url.startswith(("data:", "file:", "blob:")) for url in page.asked), page.asked
    finally:
        context.close()


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder / "report.html") as page:
        yield page


def over(page, frame):
    """Return the place of a frame in the plot, from its left upper corner."""
    low, _, width, _ = page.evaluate(VIEWBOX)
    box = page.locator("#stack").bounding_box()
    return {"x": (frame - low) / width * box["width"], "y": 80}


def readout(page):
    rows = page.locator("#readout tr").all()
    return [cell for row in rows for cell in row.locator("th, td").all_inner_texts()]


def test_hovering_shows_the_frames_values(page):
    page.hover("#stack", position=over(page, 23))
    assert readout(page)[:6] == ["Frame 23, 0.92 s", "latency", "latency", "33.0 ms", "age", "6 frames"]
    assert "S_h of frame 20 landed, 3 frames late" in readout(page)
    assert "lower 5.8, propagate 2.5" in readout(page)
    page.hover("#stack", position=over(page, 60))
    assert "key frame; degraded" in readout(page)
    left = page.evaluate("parseFloat(document.getElementById('cursor').style.left)")
    assert left == pytest.approx(60.5, abs=0.5)
    page.hover("#stack", position=over(page, 41.8))
    assert readout(page)[0].startswith("Frame 43"), "the nearest one that was not dropped"


def test_dragging_zooms_and_a_double_click_shows_all(page):
    page.locator(".latency").scroll_into_view_if_needed()
    box, (left, right) = page.locator("#stack").bounding_box(), (over(page, 20)["x"], over(page, 50)["x"])
    page.mouse.move(box["x"] + left, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + (left + right) / 2, box["y"] + 90)
    assert page.locator("#selection").is_visible()
    page.mouse.move(box["x"] + right, box["y"] + 60)
    page.mouse.up()
    low, top, width, height = page.evaluate(VIEWBOX)
    assert (low, low + width) == (pytest.approx(20, abs=0.5), pytest.approx(50, abs=0.5))
    assert height == -top and 109 <= height < 120, "the lines stay in sight"
    boxes = page.evaluate(
        "[...document.querySelectorAll('#stack svg')].map(s => s.getAttribute('viewBox').split(' ')[0])"
    )
    assert len(boxes) == 6 and len(set(boxes)) == 1, "all panels show the same frames"
    assert page.locator("#along span").all_inner_texts() == ["20", "25", "30", "35", "40", "45", "50"]
    page.hover("#stack", position=over(page, 33))
    assert readout(page)[0].startswith("Frame 33")
    page.locator("#stack").dblclick(position={"x": 100, "y": 60})
    assert page.evaluate(VIEWBOX)[2] == FRAMES
    assert page.locator("#selection").is_hidden()


def test_the_wheel_zooms_with_ctrl_and_scrolls_without(page):
    page.hover("#stack", position=over(page, 80))
    page.mouse.wheel(0, -100)
    assert page.evaluate(VIEWBOX)[2] == FRAMES
    page.evaluate("scrollTo(0, 0)")
    page.hover("#stack", position=over(page, 80))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    until(lambda: page.evaluate(VIEWBOX)[2] < FRAMES, "fewer frames")
    low, _, width, _ = page.evaluate(VIEWBOX)
    assert (80 - low) / width == pytest.approx(0.8, abs=0.02), "about the frame under the pointer"


def test_everything_works_by_keyboard(page):
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "stack":
            break
    slider = page.locator("#stack")
    assert page.evaluate("document.activeElement.id") == "stack" and slider.get_attribute("role") == "slider"
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuenow") == "0" and "start-up" in slider.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    assert slider.get_attribute("aria-valuenow") == "11"
    assert "Frame 11, 0.44 s: latency, 21.0 ms, age 4 frames" in slider.get_attribute("aria-valuetext")
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.evaluate(VIEWBOX)[2] == FRAMES / 4
    page.keyboard.press("End")
    low, _, width, _ = page.evaluate(VIEWBOX)
    assert slider.get_attribute("aria-valuenow") == "99" and low <= 99 <= low + width, "it comes along"
    page.keyboard.press("-")
    assert page.evaluate(VIEWBOX)[2] == FRAMES / 2
    page.keyboard.press("0")
    assert page.evaluate(VIEWBOX)[2] == FRAMES
    page.focus("#in")
    page.keyboard.press("Enter")
    assert page.evaluate(VIEWBOX)[2] == FRAMES / 2
    page.click("#later")
    assert page.evaluate(VIEWBOX)[0] == FRAMES / 2 - 0.5 and page.locator("#later").is_disabled()
    page.click("#all")
    assert page.locator("#all").is_disabled() and page.evaluate(VIEWBOX)[2] == FRAMES


@pytest.mark.parametrize("embedded", [True, False])
def test_the_video_plays_and_a_click_shows_its_frame(browser, folder, tmp_path, monkeypatch, embedded):
    beside = shutil.copytree(folder, tmp_path / "b #1?%20")
    if not embedded:
        monkeypatch.setattr(page_module, "MOST_EMBEDDED", 10)
        write_run(beside, json.loads((beside / "report.json").read_text()))
    with opened(browser, beside / "report.html") as page:
        until(lambda: page.evaluate("document.querySelector('video').readyState >= 2"), "a picture of the video")
        assert page.evaluate("document.querySelector('video').src.slice(0, 5)") == ("data:" if embedded else "file:")
        page.locator("#stack").click(position=over(page, 50))
        until(
            lambda: page.evaluate(
                "!document.querySelector('video').seeking && document.querySelector('video').currentTime > 0"
            ),
            "the frame that was sought",
        )
        assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(2.0, abs=0.01)
        level = """() => { const canvas = document.createElement('canvas').getContext('2d');
          canvas.drawImage(document.querySelector('video'), 0, 0); return canvas.getImageData(5, 5, 1, 1).data[0]; }"""
        if embedded:
            assert page.evaluate(level) == pytest.approx(100, abs=4), "frame 50 is of this grey"
        page.evaluate("document.querySelector('video').play()")
        until(lambda: int(page.get_attribute("#stack", "aria-valuenow")) > 55, "the plot to follow the video")


def test_two_runs_in_one_plot(browser, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    report = json.loads((other / "report.json").read_text())
    report["per_frame"] = [
        {**row, "latency_ms": 2 * row["latency_ms"]} for row in report["per_frame"] if row["index"] < 60
    ]
    write_run(other, report)
    compare(folder, other, tmp_path / "both.html")
    with opened(browser, tmp_path / "both.html") as page:
        page.hover("#stack", position=over(page, 23))
        cells = readout(page)
        assert "33.0 ms" in cells and "66.0 ms" in cells
        page.hover("#stack", position=over(page, 70))
        assert "80.0 ms" in readout(page) and "–" in readout(page)
        assert page.locator("path.curve.s1").count() == 2 and page.locator("video").count() == 2
        assert page.locator("h2").first.inner_text() == "What differs"


def test_two_runs_can_be_read_on_a_telephone(browser, folder, tmp_path):
    compare(folder, folder, tmp_path / "both.html")
    with opened(browser, tmp_path / "both.html", viewport={"width": 400, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        name, value = (
            page.get_by_role(role, name=text).first for role, text in [("rowheader", "p99"), ("cell", "109")]
        )
        assert name.bounding_box()["width"] > 90 and value.bounding_box()["height"] < 60


def test_without_a_script_plot_and_figures_are_there(browser, folder):
    with opened(browser, folder / "report.html", java_script_enabled=False) as page:
        assert page.locator("path.curve.s0").count() == 2 and page.locator("#stack").is_visible()
        assert page.get_by_role("cell", name="59.5 ms").count() == 1
        assert page.get_by_role("img", name="Latency of every frame. latency: 11.0 to 109.0 ms").count() == 1
        for part in page.locator("[data-script]").all():
            assert part.is_hidden(), "what only a script can work"


def test_it_prints(page):
    page.emulate_media(media="print")
    assert page.locator("#stack").is_visible() and page.locator(".buttons").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_screen(browser, folder, width):
    with opened(browser, folder / "report.html", viewport={"width": width, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_can_be_read_without_eyes(page):
    assert page.evaluate("document.documentElement.lang") == "en" and page.title() == "cam <1>: lowlat segment"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1 and set(levels) == {1, 2}
    nameless = """[...document.querySelectorAll('button, a, video, img, [role=slider], [role=img]')].filter(
      (e) => !(e.ariaLabel || e.alt || e.textContent.trim())).length"""
    assert page.evaluate(nameless) == 0
    assert page.evaluate("[...document.querySelectorAll('svg')].every((s) => s.getAttribute('aria-hidden') === 'true')")
    assert page.evaluate("[...document.querySelectorAll('th')].every((h) => h.scope)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert page.get_attribute("#stack", "aria-label") == "Frame"


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out_in_dark_and_light(browser, folder, scheme):
    """Contrast of 4.5 at least, as WCAG 2 asks of text; 3 for the lines of a plot."""
    contrast = """([name, ground]) => {
      const style = getComputedStyle(document.documentElement);
      const light = (name) => {
        const hex = style.getPropertyValue(name).trim().slice(1).match(/../g).map((h) => parseInt(h, 16) / 255);
        const [r, g, b] = hex.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [low, high] = [light(name), light(ground)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    }"""
    with opened(browser, folder / "report.html", color_scheme=scheme) as page:
        for name in ("--text", "--dim", "--bad", "--s0", "--s1", "--baseline", "--bound", "--key", "--landed"):
            for ground in ("--card", "--ground"):
                assert page.evaluate(contrast, [name, ground]) >= 4.5, (name, ground)
