"""The report in a real browser: shapes that turn, nothing from elsewhere, light and dark, narrow and wide."""

from __future__ import annotations

import numpy as np
import pytest
from browser import chromium, opened, picture

from gan3d_eval.report import report
from gan3d_eval.run_dir import RunDir


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def page_url(run_copy, cli):
    assert cli("nn-check", run_copy.path, "--raw").exit_code == 0
    return report([RunDir.open(run_copy.path)]).as_uri()


def test_shapes_are_drawn_turn_and_follow_one_another(browser, page_url):
    with opened(browser, "file:") as page:
        page.goto(page_url)
        sample, near = page.locator("canvas").all()
        page.wait_for_function("document.querySelector('output').textContent.startsWith('1 of 24')")
        seen = [picture(sample), picture(near)]
        red, _, blue = (seen[0][..., i].astype(int) for i in range(3))
        assert (blue > red + 40).mean() > 0.005  # the sample is blue
        red, _, blue = (seen[1][..., i].astype(int) for i in range(3))
        assert (red > blue + 20).mean() > 0.005  # its neighbour is sand
        sample.focus()
        page.keyboard.press("ArrowLeft")
        turned = [picture(sample), picture(near)]
        assert all(not np.array_equal(a, b) for a, b in zip(seen, turned, strict=True))  # both under one hand
        page.keyboard.press("0")
        page.keyboard.press("n")
        page.wait_for_function("document.querySelector('output').textContent.startsWith('2 of 24')")
        page.get_by_role("button", name="Previous").click()
        page.get_by_role("button", name="Previous").click()
        assert page.locator("output").text_content().startswith("24 of 24")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_overflows_and_the_page_is_as_light_as_asked_for(browser, page_url, scheme, width):
    with opened(browser, "file:", color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.goto(page_url)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert (np.median(picture(page.locator("h1"))) > 128) == (scheme == "light")
        assert page.locator("img:not([alt]), canvas:not([aria-label])").count() == 0
