"""One person, one moment, no background: a cut-out with exact alpha.

Still i of a seed is always the same person in the same pose under the same light.  Names say what
the frame does to the person: `full_*` shows all of them, `half_*` ends below inside the body (a
webcam's picture, or half a figure), so its lower edge belongs on the lower edge of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from matting.synthesis.camera import motion_kernel
from matting.synthesis.humans import body, render
from matting.synthesis.humans.assets import Library
from matting.synthesis.humans.gesture import gesture, hands
from matting.synthesis.humans.light import random_light
from matting.synthesis.humans.pose import Clip, Poser

MARGIN = 6  # pixels of nothing around a whole figure
GRID, GRID_CLOSE = 4, 3  # samples along a pixel's side: whole figures, and those close up
WIDEST = 900  # pixels
SMEAR = 25.0  # pixels: the longest motion blur

# what is shown -> its chance, and for those cut below: the joint at the cut, and where (a range)
# between it and the next
VIEWS: dict[str, tuple[float, tuple[str, str] | None]] = {
    "full": (0.34, None),
    "above": (0.12, None),
    "low": (0.05, None),
    "knees": (0.12, ("upperleg01.L", "lowerleg01.L")),
    "waist": (0.14, ("spine05", "upperleg02.L")),
    "chest": (0.14, ("spine03", "spine05")),
    "face": (0.09, ("spine01", "spine03")),
}


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    rgb: np.ndarray  # (h, w, 3) uint8 straight, colour carried on beyond the edge
    alpha: np.ndarray  # (h, w) uint8
    view: str

    @property
    def cut(self) -> bool:
        return VIEWS[self.view][1] is not None


def random_pose(
    poser: Poser, rng: np.random.Generator, view: str
) -> tuple[np.ndarray, Clip | None, float]:
    """(B, 3, 3) pose, and the clip and second it was taken from, if any."""
    close = view in ("chest", "face", "waist")
    if rng.random() < (0.25 if close else 0.5):
        clips = [c for c in poser.clips if not (close and lies(c))]
        chance = np.float64([1.0 if c.bones is not None else 1.6 for c in clips])
        clip = clips[rng.choice(len(clips), p=chance / chance.sum())]
        second = float(rng.uniform(0, clip.seconds))
        bones, _ = poser.at(clip, second)
        if clip.bones is None:
            bones = poser.with_fingers(bones, hands(rng))
        return bones, clip if clip.frames > 1 else None, second
    stance = str(rng.choice(["sit", "stand", "sit", "wide"])) if close else None
    turns = gesture(poser, rng, stance, looseness=rng.uniform(0.6, 1.3))
    return poser.with_fingers(poser.spread(turns), hands(rng)), None, 0.0


def lies(clip: Clip) -> bool:
    """Whether in it someone is near the ground or upside down."""
    return any(w in clip.name for w in ("getup", "crawl", "fly", "gym", "fight02"))


def random_still(
    library: Library, poser: Poser, seed: list[int], tall: int = 640,
    pictures: list[Path] | None = None,
) -> Still:  # fmt: skip
    """Still of this seed, at most `tall` pixels high.  `pictures`: places to take light from."""
    rng = np.random.default_rng(seed)
    chances = np.float64([chance for chance, _ in VIEWS.values()])
    view = str(rng.choice(list(VIEWS), p=chances / chances.sum()))
    traits = body.random_traits(rng, library)
    person = body.assemble(library, traits, rng)
    figure = render.pack(person, library.rig)
    bones, clip, second = random_pose(poser, rng, view)
    picture = None
    if pictures and rng.random() < 0.5:
        picture = cv2.imread(str(pictures[rng.integers(len(pictures))]))
    light = random_light(rng, None if picture is None else picture[..., ::-1])
    posed = render.pose(figure, bones)
    camera = random_camera(posed, view, rng, tall)
    whole = VIEWS[view][1] is None  # close up, textures are larger than pixels
    grid, block = (GRID, 2) if whole else (GRID_CLOSE, GRID_CLOSE)
    fast = clip is not None and rng.random() < 0.2
    if fast:  # the shutter stays open while the body moves on
        shutter = rng.uniform(0.008, 0.035)
        ends = [
            camera.project(render.pose(figure, _same_hands(poser, clip, at, bones)).vertices)
            for at in (second - shutter / 2, second + shutter / 2)
        ]
        seen = (ends[0][:, 2] > 0) & (ends[1][:, 2] > 0)
        smear = float(np.abs(ends[1] - ends[0])[seen, :2].max(initial=1.0))  # pixels
        shutter *= min(1.0, SMEAR / smear)
        steps = int(np.clip(min(smear, SMEAR) / 2.5, 3, 10))  # near enough not to be told apart
        around = render.ambient(posed, light)
        total = None
        for k in range(steps):
            moment = second + shutter * (k / (steps - 1) - 0.5)
            moved = render.pose(figure, _same_hands(poser, clip, moment, bones))
            shift = tuple((rng.random(2) - 0.5) / 2)
            fine = render.draw(moved, camera, light, 2, shift, around)
            part = render.to_pixels(fine.rgba, 2)
            total = part if total is None else total + part
        rgba = total / steps
    else:
        rgba = render.to_pixels(render.draw(posed, camera, light, grid, block=block).rgba, grid)
    rgba = lens(rgba, rng, fast)
    rgb, alpha = render.develop(rgba, exposure(rgba, rng))
    return Still(*trim(rgb, alpha, cut=not whole), view)


def _same_hands(poser: Poser, clip: Clip, moment: float, bones: np.ndarray) -> np.ndarray:
    """The clip's pose at a moment with the fingers of `bones`."""
    moved, _ = poser.at(clip, moment)
    if clip.bones is not None:
        return moved
    names = poser.rig.names
    for i, parent in enumerate(poser.rig.parents):
        if names[i].startswith("finger"):
            moved[i] = moved[parent] @ (bones[parent].T @ bones[i])
    return moved


def random_camera(
    posed: render.Posed, view: str, rng: np.random.Generator, tall: int
) -> render.Camera:
    """A camera that frames what the view shows, from a distance people film from."""
    low, high = posed.vertices.min(0), posed.vertices.max(0)
    ends = VIEWS[view][1]
    head = posed.joint("head")
    target = (low + high) / 2 if ends is None else head * 0.6 + posed.joint("spine03") * 0.4
    azimuth = rng.normal(0, 0.75) if ends is not None else rng.normal(0, 1.3)
    if ends is not None and rng.random() < 0.85:
        azimuth *= 0.6
    # Filmed from where their chest looks, whatever way the clip went.
    facing = np.cross(posed.joint("upperarm01.L") - posed.joint("upperarm01.R"),
                      posed.joint("neck01") - posed.joint("spine04"))  # fmt: skip
    azimuth += np.arctan2(facing[0], facing[2])
    elevation = rng.normal(0.08, 0.1)
    distance = rng.uniform(25, 70)
    if view == "above":
        elevation = rng.uniform(0.4, 1.15)
    elif view == "low":
        elevation = rng.uniform(-0.45, -0.15)
    elif view in ("chest", "face"):
        distance, elevation = rng.uniform(6.5, 14), rng.normal(0.0, 0.16)
    elif view in ("waist", "knees"):
        distance, elevation = rng.uniform(12, 40), rng.normal(0.03, 0.12)
    way = np.float64([np.sin(azimuth) * np.cos(elevation), np.sin(elevation),
                      np.cos(azimuth) * np.cos(elevation)])  # fmt: skip
    size = float(np.linalg.norm(high - low)) / 17  # a child is filmed from nearer
    eye = target + way * distance * max(0.55, size)
    axes = render.look(eye, target, rng.normal(0, 0.03))
    camera = render.Camera(np.float32(eye), axes, 1.0, (0.0, 0.0), (1, 1))
    places = camera.project(posed.vertices)
    places = places[places[:, 2] > 0]
    top, bottom = places[:, 1].min(), places[:, 1].max()
    if ends is not None:
        between = [camera.project(posed.joint(name)[None])[0, 1] for name in ends]
        bottom = between[0] + (between[1] - between[0]) * rng.uniform(0, 1)
        bottom = max(bottom, top + 0.2 * (places[:, 1].max() - top))
        places = places[places[:, 1] <= bottom]
    left, right = places[:, 0].min(), places[:, 0].max()
    room = tall - (MARGIN if ends is not None else 2 * MARGIN)
    focal = min(room / (bottom - top), (WIDEST - 2 * MARGIN) / (right - left))
    height = int(np.ceil((bottom - top) * focal)) + (MARGIN if ends is not None else 2 * MARGIN)
    width = int(np.ceil((right - left) * focal)) + 2 * MARGIN
    centre = (MARGIN - left * focal, MARGIN - top * focal)
    return render.Camera(np.float32(eye), axes, focal, centre, (height, width))


def lens(rgba: np.ndarray, rng: np.random.Generator, moving: bool) -> np.ndarray:
    """The lens's own softness; now and then out of focus, or shaken."""
    rgba = cv2.GaussianBlur(rgba, (0, 0), rng.uniform(0.35, 0.6))
    chance = rng.random()
    if chance < 0.12:
        radius = rng.uniform(1.0, 4.0)
        side = int(np.ceil(radius)) * 2 + 1
        y, x = np.mgrid[:side, :side] - side // 2
        disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
        rgba = cv2.filter2D(rgba, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)
    elif chance < 0.2 and not moving:
        kernel = motion_kernel(rng, int(rng.integers(3, 17)) | 1)
        rgba = cv2.filter2D(rgba, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return rgba


def exposure(rgba: np.ndarray, rng: np.random.Generator) -> float:
    """Factor that a camera's meter would choose for this person, not always rightly."""
    solid = rgba[..., 3] > 0.9
    if not solid.any():
        return 1.0
    light = rgba[..., :3][solid] @ np.float32([0.3, 0.59, 0.11])
    wanted = 0.16 * np.exp(rng.normal(0, 0.35))
    bright = float(np.percentile(light, 97))
    return float(min(wanted / max(float(light.mean()), 0.01), 1.1 / max(bright, 0.01), 3.0))


def trim(rgb: np.ndarray, alpha: np.ndarray, cut: bool) -> tuple[np.ndarray, np.ndarray]:
    """Without empty rows and columns beyond the margin; a cut lower edge stays the edge."""
    rows, columns = np.nonzero(alpha.max(1) > 2)[0], np.nonzero(alpha.max(0) > 2)[0]
    if not len(rows):
        raise ValueError("a still without a person: the camera looked past them")
    bottom = alpha.shape[0] if cut else rows[-1] + 1 + MARGIN
    window = np.s_[max(0, rows[0] - MARGIN) : bottom,
                   max(0, columns[0] - MARGIN) : columns[-1] + 1 + MARGIN]  # fmt: skip
    return np.ascontiguousarray(rgb[window]), np.ascontiguousarray(alpha[window])


def write(still: Still, path: Path) -> None:
    """RGBA WebP; lossy colour, lossless alpha.  Whole or not at all."""
    rgba = np.dstack([still.rgb[..., ::-1], still.alpha])
    ok, data = cv2.imencode(".webp", rgba, [cv2.IMWRITE_WEBP_QUALITY, 92])
    if not ok:
        raise OSError(f"{path}: the picture could not be encoded as WebP")
    part = path.with_suffix(".part")
    part.write_bytes(data.tobytes())
    part.replace(path)
