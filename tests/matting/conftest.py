"""A data folder of drawn people, laid out as the real one, small enough to train on in a test."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest


def figure(rng: np.random.Generator, height: int = 96) -> np.ndarray:
    """(h, w, 4) BGRA: a head on a body, with a soft outline, in a colour of its own."""
    width = height // 2
    alpha = np.zeros((height, width), np.uint8)
    cv2.circle(alpha, (width // 2, height // 6), height // 8, 255, -1)
    cv2.ellipse(alpha, (width // 2, height * 2 // 3), (width // 3, height // 3), 0, 0, 360, 255, -1)
    alpha = cv2.GaussianBlur(alpha, (5, 5), 0)
    bgr = np.broadcast_to(rng.integers(40, 255, 3), (height, width, 3)).astype(np.uint8)
    return np.dstack([bgr, alpha])


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small networks gain nothing from threads, and a busy machine makes threads wait for each
    other."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(7)
    for kind in ("people", "backgrounds", "scenes", "unions"):
        (root / kind).mkdir()
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    for i in range(21):
        cv2.imwrite(str(root / f"people/a_{i:02}.webp"), figure(rng), lossless)
        ground = rng.integers(0, 90, (6, 9, 3)).astype(np.uint8)
        ground = cv2.resize(ground, (120, 80), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / f"backgrounds/b_{i:02}.webp"), ground, lossless)
    for i in range(22):
        ids = np.zeros((80, 120), np.uint8)
        cv2.ellipse(ids, (40, 40), (15, 30), 0, 0, 360, 1, -1)
        cv2.ellipse(ids, (80, 40), (15, 30), 0, 0, 360, 2, -1)
        shown = np.stack([ids * 100] * 3, 2)
        cv2.imwrite(str(root / f"scenes/penn_PennPed{i:05}.webp"), shown, lossless)
        cv2.imwrite(str(root / f"scenes/penn_PennPed{i:05}.png"), ids)
    return root


@pytest.fixture
def drawn_film(tmp_path) -> Path:
    """Six frames of a red square that goes 4 pixels to the right in each, and a blue one that
    stays, as matting/synthesis/humans/sequences.py would write them."""
    folder = tmp_path / "rendered" / "sequences" / "000000"
    folder.mkdir(parents=True)
    rgb = np.zeros((64, 128, 3), np.uint8)
    rgb[:, :72], rgb[:, 72:] = (0, 0, 200), (200, 0, 0)  # BGR
    for k in range(6):
        alpha = np.zeros((64, 128, 3), np.uint8)
        alpha[16:48, 20 + 4 * k : 48 + 4 * k, 0] = 255
        alpha[16:48, 80:108, 1] = 255
        cv2.imwrite(str(folder / f"rgb_{k:03}.webp"), rgb, [cv2.IMWRITE_WEBP_QUALITY, 101])
        cv2.imwrite(str(folder / f"alpha_{k:03}.png"), alpha)
    frame = {"shake": [0, 0], "boxes": [None] * 2, "whole": [None] * 2, "hidden": [0.0, 0.0]}
    about = {"seed": [0], "rate": 10.0, "size": [64, 128], "ids": [1, 2], "frames": [frame] * 6}
    (folder / "scene.json").write_text(json.dumps(about))
    return folder
