"""A real browser for tests: headless Chromium with a camera that plays a file of ours."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """The browser to use: $CHROMIUM, one on the path, or None for the one Playwright brings."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser(camera: Path | None = None):
    """A browser; skips the test, saying so, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream"]
    if camera:
        flags += [
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
        ]
    with api.sync_playwright() as play:
        try:
            made = play.chromium.launch(executable_path=chromium(), args=flags)
        except api.Error as error:
            if os.environ.get("REQUIRE_BROWSER") == "1":
                raise
            pytest.skip(f"no Chromium to test the page in: {str(error).splitlines()[0]}")
        try:
            yield made
        finally:
            made.close()


def write_mjpeg(path: Path, pictures) -> Path:
    """Pictures (H, W, 3) RGB as the MJPEG file that Chromium's fake camera plays over and over."""
    with path.open("wb") as file:
        for rgb in pictures:
            ok, data = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            assert ok
            file.write(data.tobytes())
    return path
