"""The page in a real browser: people click, and the right thing happens to the right person."""

import base64

import av
import cv2
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from stream.camera import LiveSource
from stream.live import Wishes
from tests.fakes import COLOURS, WALL
from tests.web.browser import browser, write_mjpeg
from tests.web.test_server import Session

SIZE = (360, 640)
SQUARES = {1: (60, 80), 2: (160, 420)}  # id -> y, x of the top left corner
SIDE = 120
SECONDS = 30_000  # milliseconds a machine may take that does much else


def scene():
    """Two striped squares: what is blurred loses its stripes."""
    rgb = np.full((*SIZE, 3), WALL, np.uint8)
    for colour, (y, x) in zip(("red", "green"), SQUARES.values(), strict=True):
        part = rgb[y : y + SIDE, x : x + SIDE]
        part[:] = COLOURS[colour]
        part[:, ::8] = part[:, 1::8] = part[:, 2::8] = np.array(COLOURS[colour]) * 0.68
    return rgb


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    camera = write_mjpeg(tmp_path_factory.mktemp("camera") / "two.mjpeg", [scene()] * 4)
    with browser(camera) as made:
        yield made


@pytest.fixture
def session(tmp_path):
    with Session(LiveSource("browser"), tmp_path / "recordings", wishes=Wishes("keep")) as made:
        yield made


@pytest.fixture
def page(chromium, session):
    """The page, open, with the browser's own camera shared and both people seen."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    page.goto(session.page.url)
    page.get_by_role("button", name="Use this browser’s camera").click()
    page.wait_for_selector("#person-2")
    page.wait_for_selector("#empty", state="hidden")
    yield page
    context.close()
    assert [line for line in said if "Failed to load resource" not in line] == []


def picture(page, selector="#picture"):
    """(H, W, 4) uint8: what the canvas shows now."""
    told = page.evaluate(
        """(selector) => {
            const canvas = document.querySelector(selector);
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            let text = '';
            for (let i = 0; i < data.data.length; i += 8192)
                text += String.fromCharCode(...data.data.subarray(i, i + 8192));
            return [canvas.height, canvas.width, btoa(text)];
        }""",
        selector,
    )
    return np.frombuffer(base64.b64decode(told[2]), np.uint8).reshape(told[0], told[1], 4)


def stripes(rgba, person):
    """How strong the stripes of someone are: the spread of brightness inside their square."""
    y, x = SQUARES[person]
    inside = rgba[y + 20 : y + SIDE - 20, x + 20 : x + SIDE - 20, :3]
    return float(inside.mean(axis=2).std())


def until(page, condition, seconds=20):
    for _ in range(seconds * 10):
        if condition():
            return True
        page.wait_for_timeout(100)
    return False


def click_person(page, person, width=640, height=360):
    y, x = SQUARES[person]
    box = page.locator("#picture").bounding_box()
    page.mouse.click(
        box["x"] + (x + SIDE / 2) / width * box["width"],
        box["y"] + (y + SIDE / 2) / height * box["height"],
    )


def test_clicking_a_person_and_choosing_blur_changes_them_and_nobody_else(page):
    assert page.locator(".person").count() == 2
    before = picture(page)

    click_person(page, 1)
    page.locator("#person-1").get_by_role("button", name="Blur", exact=True).click()

    def blurred():  # and not a slate: a machine that does much else may hold the camera up
        now = picture(page)
        return (
            stripes(now, 1) < stripes(before, 1) / 3 and stripes(now, 2) > stripes(before, 2) * 0.8
        )

    assert until(page, blurred)
    after = picture(page)
    y, x = SQUARES[2]
    other = np.abs(
        after[y : y + SIDE, x : x + SIDE].astype(int) - before[y : y + SIDE, x : x + SIDE]
    )
    assert np.median(other) < 6
    assert "blurred" in page.locator("#person-1").inner_text()


def test_everything_can_be_done_with_the_keyboard(page):
    page.keyboard.press("2")
    page.keyboard.press("h")
    assert until(page, lambda: stripes(picture(page), 2) < 4)
    page.keyboard.press("k")
    assert until(page, lambda: stripes(picture(page), 2) > 8)

    page.keyboard.press("n")
    page.keyboard.type("Zoë")
    page.keyboard.press("Enter")
    assert until(page, lambda: page.locator("#person-2 b").inner_text() == "Zoë")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert until(page, lambda: page.locator("#person-2 .inside").is_hidden())
    page.keyboard.press("?")
    assert until(page, lambda: page.locator("#help").is_visible())
    page.keyboard.press("Escape")
    assert until(page, lambda: page.locator("#help").is_hidden())
    page.keyboard.press("v")
    cutout = page.locator("[data-view=cutout]")
    assert until(page, lambda: cutout.get_attribute("aria-checked") == "true")


def test_a_recording_is_made_and_its_tracks_play(page, tmp_path):
    page.locator("#record").click()
    assert until(page, lambda: "0:02" in page.locator("#record-text").inner_text())
    page.locator("#record").click()
    page.wait_for_selector("#recordings a")

    for name, tracks in (("Alpha tracks", 2), ("Result", 1)):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        with av.open(str(path)) as container:
            assert len(container.streams.video) == tracks
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(frames) >= 5
    with av.open(str(next(tmp_path.glob("*alpha.mkv")))) as container:
        alpha = next(iter(container.decode(video=0))).to_ndarray(format="gray")
    y, x = SQUARES[1]
    assert alpha[y + 60, x + 60] == 255 and alpha[SQUARES[2][0] + 60, SQUARES[2][1] + 60] == 0


def test_a_picture_that_is_dropped_on_a_person_stands_behind_them(page, tmp_path):
    sea = np.full((90, 160, 3), (200, 60, 0), np.uint8)  # BGR: blue
    cv2.imwrite(str(tmp_path / "sea.png"), sea)
    data = list((tmp_path / "sea.png").read_bytes())
    drop = """([data, x, y]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(data)], 'sea.png', { type: 'image/png' }));
        const place = document.elementFromPoint(x, y);
        for (const kind of ['dragover', 'drop'])
            place.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true,
                dataTransfer: transfer, clientX: x, clientY: y }));
    }"""
    box = page.locator("#picture").bounding_box()
    y, x = SQUARES[1]
    where = [box["x"] + (x + 60) / 640 * box["width"], box["y"] + (y + 60) / 360 * box["height"]]

    page.evaluate(drop, [data, *where])

    beside = y + 60, x - 30  # near the first person, far from the second
    far = SQUARES[2][0] + 60, SQUARES[2][1] + SIDE + 60

    def only_theirs():
        now = picture(page)
        blue = now[beside][2] > 150 and now[beside][0] < 60
        wall = np.abs(now[far][:3].astype(int) - WALL).max() < 30
        return blue and wall and stripes(now, 1) > 8

    assert until(page, only_theirs)


def test_what_cannot_be_used_is_told_in_the_page(page, tmp_path):
    bad = tmp_path / "holiday.png"
    bad.write_bytes(b"not a picture")

    page.set_input_files("#file", str(bad))

    page.get_by_text("holiday.png").filter(has_text="not a video or picture").wait_for()


def test_the_page_for_obs_is_people_and_transparency(page, session, chromium):
    obs = chromium.new_page()
    obs.goto(session.page.url + "obs")
    y, x = SQUARES[1]

    def alpha():
        canvas = picture(obs)
        return canvas[y + 60, x + 60, 3] if canvas.shape[:2] == SIZE else 0

    assert until(obs, lambda: alpha() > 240)
    canvas = picture(obs)
    assert canvas[20, 320, 3] < 10
    assert np.abs(canvas[y + 60, x + 60, :3].astype(int) - COLOURS["red"]).max() < 90
    assert obs.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    obs.close()


@pytest.mark.parametrize("width, height", [(360, 740), (820, 1180), (740, 360)])
def test_small_screens_need_no_sideways_scrolling_and_show_the_picture(page, width, height):
    page.set_viewport_size({"width": width, "height": height})
    page.keyboard.press("1")
    page.wait_for_timeout(300)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#picture").bounding_box()
    assert box["width"] > min(width * 0.5, 300)
    for button in page.locator("button:visible").all():
        place = button.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= width + 1


def test_stopping_the_camera_gives_it_back_and_says_so(page, session):
    page.get_by_role("button", name="Stop camera").click()

    page.get_by_role("button", name="Use this browser’s camera").wait_for()
    assert until(page, lambda: page.locator("#source").get_attribute("data-state") == "lost")


def test_a_page_that_loses_the_program_says_so(chromium, tmp_path):
    with Session(LiveSource("browser"), tmp_path) as session:
        page = chromium.new_page()
        page.goto(session.page.url)
        assert until(page, lambda: page.evaluate("window.troupe?.latest"))
    page.get_by_text("The program does not answer").first.wait_for(timeout=SECONDS)
    page.close()
