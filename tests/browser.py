"""Chromium for tests: found on the PATH, drawing in software, watched for errors and for requests to elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def chromium():
    """A browser; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the PATH")
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, origin="about:", **options):
    """A page in a context of its own; at the end there must have been no error and no request beyond `origin`."""
    context = browser.new_context(**options)
    page, faults = context.new_page(), []
    page.set_default_timeout(20_000)
    page.on("console", lambda message: faults.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((origin, "data:")) else faults.append(f"asked for {asked.url}")
    )
    yield page
    context.close()
    assert faults == []


def picture(locator) -> np.ndarray:
    """What is seen of an element, `(h, w, 3) uint8`."""
    return np.array(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))
