"""The picture of the page in README.md and docs/serve.md: `python tests/serve/screenshot.py docs/images/serve.png`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import chromium, page_of
from program import Program
from waiting import until

from lowlat.jobs.demo import sample_clip


def screenshot(browser, path, frames):
    """Serve the sample clip with what is shipped, and take a picture of the page once it has shown so many frames; what
    the service says of the video then."""
    clip = sample_clip()
    with Program("--source", f"street={clip.name}", cwd=clip.parent) as program:
        with page_of(browser, program.address, color_scheme="dark") as page:
            until(lambda: program.get("videos/street")["counts"]["labelled"] >= frames, "labels", 400)
            page.wait_for_selector("canvas[data-index]")
            until(lambda: "%" in page.get_attribute("canvas", "aria-label"), "shares of classes")
            page.screenshot(path=path, full_page=True)
            return program.get("videos/street")


if __name__ == "__main__":
    with chromium() as browser:
        print(screenshot(browser, sys.argv[1], frames=60))
