"""A real browser without a screen, Debian's Chromium, driven by Playwright."""

import shutil
from contextlib import contextmanager

from playwright.sync_api import sync_playwright


@contextmanager
def chromium():
    """Start the browser; one at a time in a process. It has a camera that shows a test picture, and may use it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "expected Chromium on the PATH, found none; apt-get install chromium, or run make browser as root"
    arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser, address, **options):
    """Open a page and return it as Playwright does; its `errors` are the complaints of its scripts."""
    page = browser.new_page(viewport={"width": 1100, "height": 900}, **options)
    try:
        page.set_default_timeout(60_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(address)
        yield page
    finally:
        page.close()
