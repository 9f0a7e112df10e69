"""The page with the real network and a real browser: `python -m bench.check_page`.

Headless Chromium shares a fake camera that plays the bedroom clip, slowed so that a busy machine
sees every movement.  The page has to show two people; clicking one in the picture and choosing Blur
has to change that person's pixels and not the other's; a recording has to leave tracks that play.
`--picture PATH` keeps a screenshot.  Exit code 1 says what was not so.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from configs.schema import Settings
from run_stream import WEIGHTS, new_tracker
from stream.camera import LiveSource
from stream.live import Live, Wishes
from tests.web.browser import browser, write_mjpeg
from web.hub import Hub
from web.server import Desk, Page, application
from web.uploads import Library

SLOWER = 20  # how often each picture of the clip is repeated


def pixels(page: Any) -> np.ndarray:
    """(H, W, 3) uint8 of what the canvas shows."""
    height, width, data = page.evaluate(
        """() => { const c = document.querySelector('#picture');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let t = '';
        for (let i = 0; i < d.length; i += 8192) t += String.fromCharCode(...d.subarray(i, i+8192));
        return [c.height, c.width, btoa(t)]; }"""
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[:, :, :3]


def until(page: Any, condition: Any, what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not so within {seconds:.0f} s: {what}")
        page.wait_for_timeout(100)


def detail(rgb: np.ndarray, mask: np.ndarray) -> float:
    """How much fine structure there is inside a person: what a blur takes away."""
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    inside = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return float(np.abs(cv2.Laplacian(gray, cv2.CV_32F))[inside].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clip", default="demo/bedroom.mp4")
    parser.add_argument("--from-frame", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="keep a screenshot here")
    parser.add_argument("--seconds", type=float, default=180, help="patience with each step")
    said = parser.parse_args()
    import engines

    folder = Path(tempfile.mkdtemp())
    with av.open(said.clip) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = frames[said.from_frame : said.from_frame + 40]
    there_and_back = [*frames, *frames[::-1]]
    camera = write_mjpeg(
        folder / "camera.mjpeg", (rgb for rgb in there_and_back for _ in range(SLOWER))
    )
    engine = engines.load_engine(["openvino", "onnxruntime"], WEIGHTS)
    hub, library = Hub(720, 85), Library(50)
    settings = Settings()
    live = Live(LiveSource("browser"), engine, lambda: new_tracker(settings),
                wishes=Wishes("keep"), sinks=[hub], calm=settings.people.calm,
                log=print)  # fmt: skip
    desk = Desk(live, hub, library, folder / "recordings")
    page_server = Page(application(desk), "127.0.0.1", 0)
    with live, browser(camera) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800}, accept_downloads=True)
        page.set_default_timeout(said.seconds * 1000)
        page.goto(page_server.url)
        page.get_by_role("button", name="Use this browser’s camera").click()
        two = "document.querySelectorAll('.person:not(.away)').length >= 2"
        until(page, lambda: page.evaluate(two), "two people are in the list", said.seconds)
        first, second = live.visible[:2]
        kept: dict[Any, Any] = {}

        def both_visible() -> bool:
            """Keeps picture and map of one and the same moment."""
            told = page.evaluate(
                """() => { const l = window.troupe.latest; return l && [l.header, [...l.map]]; }"""
            )
            rgb = pixels(page)
            if told is None or told[0]["slate"]:
                return False
            ids = [person["id"] for person in told[0]["people"]]
            if first not in ids or second not in ids:
                return False
            places = np.array(told[1], np.uint8).reshape(told[0]["map"])
            size = rgb.shape[1], rgb.shape[0]
            for name in (first, second):
                mask = places == ids.index(name) + 1
                kept[name] = cv2.resize(mask.astype(np.uint8), size, interpolation=0) > 0
            kept["rgb"], kept["places"] = rgb, places == ids.index(first) + 1
            return min(kept[first].sum(), kept[second].sum()) > 1500

        until(page, both_visible, "both people in one picture", said.seconds)
        before = {name: detail(kept["rgb"], kept[name]) for name in (first, second)}
        distance = cv2.distanceTransform(kept["places"].astype(np.uint8), cv2.DIST_L2, 3)
        row, column = np.unravel_index(distance.argmax(), distance.shape)
        box = page.locator("#picture").bounding_box()
        page.mouse.click(
            box["x"] + (column + 0.5) / distance.shape[1] * box["width"],
            box["y"] + (row + 0.5) / distance.shape[0] * box["height"],
        )
        blur = page.locator(f"#person-{first}").get_by_role("button", name="Blur", exact=True)
        if not blur.is_visible():  # they have moved on since: the list is as good a way
            page.locator(f"#person-{first} .who").click()
        blur.click()
        until(
            page,
            lambda: both_visible() and detail(kept["rgb"], kept[first]) < 0.5 * before[first],
            "the first person is blurred", said.seconds,
        )  # fmt: skip
        after = {name: detail(kept["rgb"], kept[name]) for name in (first, second)}
        for name in (first, second):
            print(f"person {name}: fine detail {before[name]:.2f} -> {after[name]:.2f}")
        if after[second] < 0.7 * before[second]:
            sys.exit("the other person changed too")
        page.locator("#record").click()
        until(page, lambda: live.recording and live.recording.frames >= 4, "pictures are recorded",
              said.seconds)  # fmt: skip
        if said.picture:
            page.screenshot(path=said.picture)
        page.locator("#record").click()
        page.wait_for_selector("#recordings a")
        with page.expect_download() as download:
            page.get_by_role("link", name="Alpha tracks").click()
        path = folder / "alpha.mkv"
        download.value.save_as(path)
        with av.open(str(path)) as container:
            tracks = len(container.streams.video)
            count = sum(1 for _ in container.decode(video=0))
        print(f"the recording has {tracks} tracks of {count} pictures")
        if tracks < 2 or count < 4:
            sys.exit("the recording is not whole")
    page_server.close()
    library.close()
    engine.close()
    print("the page does what it should")


if __name__ == "__main__":
    main()
