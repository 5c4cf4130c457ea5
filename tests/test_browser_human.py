"""The viewer and the study in a real browser."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import waitress
from browser import chromium, opened, picture
from human_study import make_study

import gan3d_eval
from gan3d_eval.human.responses import read_answers
from gan3d_eval.human.server import create_app
from gan3d_eval.human.store import Store
from gan3d_eval.render import GENERATED, render
from gan3d_eval.voxels import pack
from studies.bench_human import study_server

VIEWER = (Path(gan3d_eval.__file__).parent / "viewer.js").read_text()
N = 4 + 6  # answers and checks
SMALL = {"viewport": {"width": 640, "height": 480}}  # drawn in software


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@contextlib.contextmanager
def served(study, path):
    """The study on a free port of this process."""
    with Store(path, study) as store:
        server = waitress.create_server(create_app(store, hosts=["127.0.0.1"]), host="127.0.0.1", port=0, ident=None)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.effective_port}/", store
        server.close()
        server.task_dispatcher.shutdown()


def chair(d=32):
    """A shape that no turn or mirror maps onto itself."""
    grid = np.zeros((d, d, d), bool)
    grid[8:24, 8:24, 12:15] = grid[8:24, 21:24, 15:28] = True
    for x, y in ((8, 8), (21, 8), (8, 21), (21, 21)):
        grid[x : x + 3, y : y + 3, 4:12] = True
    grid[5:8, 10:20, 14:20] = True  # one armrest
    return grid


def viewers(page, grid, n=1, before="", side=300):
    """Show a grid in n viewers that turn together, on a page that is a file of its own."""
    canvases = "".join(f'<canvas id="c{i}" style="width:{side}px;height:{side}px"></canvas>' for i in range(n))
    packed = base64.b64encode(pack(grid[None])[0].tobytes()).decode()
    page.set_content(f"""<!doctype html><style>* {{ margin: 0; outline: none }}</style><body>{canvases}<script>{VIEWER}</script><script>{before}
        window.viewers = [];
        for (let i = 0; i < {n}; i++) viewers.push(new VoxelViewer(document.getElementById("c" + i), {{ twin: viewers[0] }}));
        window.faces = viewers.map((viewer) => viewer.show(VoxelViewer.decode("{packed}"), {len(grid)}));</script>""")
    settle(page)


def settle(page):
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def seen(image):
    return image.astype(int).sum(axis=-1) < 740


def test_the_viewer_shows_what_render_draws(browser):
    grid = chair()
    expected = render([grid], [GENERATED], 300)[0]
    with opened(browser, viewport={"width": 300, "height": 300}) as page:
        viewers(page, grid)
        found = picture(page.locator("#c0"))
        faces = page.evaluate("faces[0]")
    solid = np.pad(grid, 1)
    assert faces == sum(int((solid & ~np.roll(solid, step, axis)).sum()) for axis in range(3) for step in (1, -1))
    assert (seen(found) & seen(expected)).sum() / (seen(found) | seen(expected)).sum() > 0.96
    both = seen(found) & seen(expected)
    assert np.abs(found[both].astype(int) - expected[both]).mean() < 6  # same light, same shading, same palette


def test_mouse_wheel_and_keys_turn_and_zoom_both(browser):
    with opened(browser, viewport={"width": 620, "height": 300}) as page:
        viewers(page, chair(), n=2)
        canvas, twin = page.locator("#c0"), page.locator("#c1")
        first = picture(canvas)

        def moved(act):
            act()
            settle(page)
            now = picture(canvas)
            assert np.abs(now.astype(int) - picture(twin)).max() <= 2
            return (seen(now) != seen(first)).sum(), seen(now).sum()

        def drag():
            page.mouse.move(100, 100)
            page.mouse.down()
            page.mouse.move(160, 120, steps=3)
            page.mouse.up()

        assert moved(drag)[0] > 500
        assert moved(lambda: canvas.press("0"))[0] == 0
        assert moved(lambda: canvas.press("ArrowRight"))[0] > 200
        canvas.press("0")
        assert moved(lambda: canvas.press("+"))[1] > 1.1 * seen(first).sum()
        canvas.press("0")
        assert moved(lambda: page.mouse.wheel(0, 100))[1] < 0.95 * seen(first).sum()


def test_two_fingers_zoom(browser):
    with opened(browser, viewport={"width": 300, "height": 300}, has_touch=True) as page:
        viewers(page, chair())
        before = seen(picture(page.locator("#c0"))).sum()
        touch = page.context.new_cdp_session(page)
        for kind, spread in (("touchStart", 30), ("touchMove", 45), ("touchMove", 60)):
            points = [{"x": 150 - spread, "y": 150, "id": 1}, {"x": 150 + spread, "y": 150, "id": 2}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        settle(page)
        assert seen(picture(page.locator("#c0"))).sum() > 1.3 * before


def test_without_webgl_there_is_a_plain_message(browser, root, tmp_path):
    without = "HTMLCanvasElement.prototype.getContext = () => null;"
    with opened(browser) as page:
        viewers(page, chair(), before=without)
        assert "WebGL" in page.inner_text(".viewer-missing")
        assert page.evaluate("viewers[0].works") is False
    with served(make_study(root, answers=4), tmp_path / "a.sqlite") as (address, _), opened(browser, address) as page:
        page.add_init_script(without)
        page.goto(address)
        page.wait_for_selector(".viewer-missing")
        assert page.locator("#form").is_hidden()  # who cannot see cannot judge


def begin(page, address):
    """Consent, by keyboard."""
    page.goto(address)
    page.wait_for_selector("#form:visible")
    page.focus("#name")
    page.keyboard.type("<b>Ada</b>")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector('body[data-trial="0"]')


def test_a_whole_study_by_keyboard_with_a_reload(browser, root, tmp_path):
    study = make_study(root, answers=4)
    with served(study, tmp_path / "a.sqlite") as (address, store), opened(browser, address, **SMALL) as page:
        begin(page, address)
        assert page.get_attribute("#buttons button:nth-child(1)", "data-answer") == "real"
        keys = "fjjfjfffjf"
        for trial in range(N):
            if trial == 5:
                page.reload()
            page.wait_for_selector(f'body[data-trial="{trial}"]')
            assert page.inner_text("#progress") == f"{trial + 1} of {N}"
            image = picture(page.locator("#stage canvas"))[::4, ::4]
            assert (image != image[0, 0]).any(axis=-1).mean() > 0.005, "the canvas is blank"
            page.keyboard.press("ArrowLeft")
            page.keyboard.press(keys[trial])
        page.wait_for_selector("#done:visible")
        page.reload()
        page.wait_for_selector("#done:visible")
        assert page.locator("#trial").is_hidden()
        trials, raters = read_answers(store.path)[1:]
    assert trials["answer"].tolist() == [{"f": "real", "j": "generated"}[key] for key in keys]
    assert trials["seconds"].between(0.1, 30).all()
    assert raters["name"].tolist() == ["<b>Ada</b>"]


def test_two_raters_at_once_one_of_them_on_a_phone(browser, root, tmp_path):
    phone = {"viewport": {"width": 360, "height": 640}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
    study = make_study(root, "2afc", 2, 4)
    with (
        served(study, tmp_path / "a.sqlite") as (address, store),
        opened(browser, address, **SMALL) as desk,
        opened(browser, address, color_scheme="dark", **phone) as small,
    ):
        begin(desk, address)
        small.goto(address)
        small.wait_for_selector("#form:visible")
        assert small.locator(".with-keys:visible").count() == 0  # a phone has no keys
        small.tap("#consent")
        small.tap("#start")
        for trial in range(N):
            for page in (desk, small):
                page.wait_for_selector(f'body[data-trial="{trial}"]')
            assert small.evaluate("document.documentElement.scrollWidth <= innerWidth")
            boxes = [small.locator(which).bounding_box() for which in (".frame >> nth=0", ".frame >> nth=1", "#buttons")]
            assert all(box["y"] >= 0 and box["y"] + box["height"] <= 640 for box in boxes)  # nothing to scroll for
            assert boxes[0]["height"] == pytest.approx(boxes[1]["height"], abs=1)
            desk.keyboard.press("j")
            small.tap("#buttons button:nth-child(1)")
        for page in (desk, small):
            page.wait_for_selector("#done:visible")
        trials = read_answers(store.path)[1]
    assert trials.groupby("rater")["answer"].unique().map(list).tolist() == [["B"], ["A"]]


@pytest.mark.slow
def test_an_answer_survives_the_death_of_the_server(browser, root, tmp_path):
    make_study(root)
    path = tmp_path / "a.sqlite"
    with study_server(root / "run0", "-n", 4, "--out", path) as (address, process):
        context = browser.new_context(**SMALL)
        page = context.new_page()
        begin(page, address)
        os.kill(process.pid, signal.SIGKILL)
        page.keyboard.press("f")
        page.wait_for_selector("#message:visible")
        assert "Not stored yet" in page.inner_text("#message")
    port = address.rstrip("/").rpartition(":")[2]
    with study_server(root / "run0", "-n", 4, "--out", path, "--port", port):
        page.wait_for_selector('body[data-trial="1"]', timeout=30_000)  # sent again by itself
        assert page.locator("#message").is_hidden()
        context.close()
    assert read_answers(path)[1]["answer"].dropna().tolist() == ["real"]
