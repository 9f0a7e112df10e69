"""People in motion: a few seconds of one to three of them before one camera, no background.

What a sequence is on the disk, and how it is read, stands in matting/synthesis/films.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from matting.synthesis.films import Frame, box_of
from matting.synthesis.humans import body, render
from matting.synthesis.humans.assets import Library
from matting.synthesis.humans.gesture import DESK, SITTING, gesture, hands
from matting.synthesis.humans.light import Light, random_light
from matting.synthesis.humans.pose import Clip, Poser, nearer
from matting.synthesis.humans.stills import exposure, lies

GLOW_STEP = 0.25  # seconds
SHOTS = 4  # within an open shutter


# --- what someone does ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Act:
    """A person and what they do where."""

    figure: render.Figure
    clip: Clip | None  # captured motion, or
    keys: np.ndarray | None  # (K, 18, 3, 3) gestures, one a second, gone between smoothly
    curl: np.ndarray  # fingers
    start: float  # second of the clip at time 0
    speed: float
    yaw: float  # the way they look, radians about y
    place: np.ndarray  # (3,) decimetres: where the feet are at half time
    seconds: float
    ground: float  # lift that puts the lowest point of the whole motion on the floor

    def bones(self, poser: Poser, t: float) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, 3) pose and (3,) way of the hips in decimetres at second t."""
        if self.clip is not None:
            bones, way = poser.at(self.clip, self.start + t * self.speed)
            _, middle = poser.at(self.clip, self.start + self.seconds / 2 * self.speed)
            way = way - middle
            if self.clip.bones is None:
                bones = poser.with_fingers(bones, self.curl)
            leg = self.figure.heads[poser.rig.number["upperleg01.L"]][1]
            leg -= self.figure.heads[poser.rig.number["foot.L"]][1]
            return bones, way * np.float32(leg)
        step = min(t / self.seconds, 0.999) * (len(self.keys) - 1)
        low, share = int(step), step - int(step)
        share = share * share * (3 - 2 * share)
        pairs = zip(self.keys[low], self.keys[low + 1], strict=True)
        parts = np.stack([nearer(a, b, share) for a, b in pairs])
        return poser.with_fingers(poser.spread(parts), self.curl), np.zeros(3, np.float32)

    def posed(self, poser: Poser, t: float) -> render.Posed:
        bones, way = self.bones(poser, t)
        posed = render.pose(self.figure, bones)
        turn = Rotation.from_euler("y", self.yaw).as_matrix()
        return posed.moved(turn, turn @ way + self.place + [0, self.ground, 0])


def random_act(
    library: Library, poser: Poser, rng: np.random.Generator, seconds: float, close: bool
) -> Act:
    """Somebody new, at the origin, looking along +z."""
    traits = body.random_traits(rng, library)
    figure = render.pack(body.assemble(library, traits, rng), library.rig)
    curl, clip, keys, start, speed = hands(rng), None, None, 0.0, 1.0
    if rng.random() < (0.15 if close else 0.6):
        clips = [c for c in poser.clips if c.frames > 1 and not (close and lies(c))]
        clip = clips[rng.integers(len(clips))]
        speed = float(rng.uniform(0.8, 1.15) * min(1.0, 0.9 * clip.seconds / seconds))
        start = float(rng.uniform(0, max(0.0, clip.seconds - seconds * speed)))
    else:
        stance = str(rng.choice(["sit", "stand"] if close else
                                ["stand", "stand", "wide", "sit", "floor", "squat"]))  # fmt: skip
        looks = rng.integers(2**31)
        count = int(np.ceil(seconds * rng.uniform(0.6, 1.4))) + 1
        found = []
        for k in range(count):  # the same legs every time, other arms; head and chest a little
            arms = tuple(rng.choice(DESK if stance in SITTING or close else [*DESK, "up", "points",
                                    "cheers", "on hip", "reaches"], 2))  # fmt: skip
            calm = np.random.default_rng([looks, k // 2])
            turns = gesture(poser, calm, stance, (str(arms[0]), str(arms[1])), 0.8)
            legs = gesture(poser, np.random.default_rng(looks), stance, ("hangs", "hangs"), 0.8)
            low = [i for i in range(len(turns)) if i == 0 or i >= 12]  # hips, thighs to feet
            turns[low] = legs[low]
            found.append(turns)
        keys = np.stack(found)
    act = Act(figure, clip, keys, curl, start, speed, 0.0, np.zeros(3, np.float32), seconds, 0.0)
    lowest = min(float(act.posed(poser, t).vertices[:, 1].min())
                 for t in np.linspace(0, seconds, 5))  # fmt: skip
    return _with(act, ground=-lowest)


def _with(act: Act, **changes: object) -> Act:
    values = {name: getattr(act, name) for name in act.__slots__}
    return Act(**(values | changes))  # type: ignore[arg-type]


# --- the scene -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    acts: tuple[Act, ...]
    camera: render.Camera
    light: Light
    sway: tuple[float, float, float]  # shake: pixels, hertz, phase
    shutter: float  # seconds; 0 = frozen
    softness: float  # pixels
    rng_exposure: int

    def shake(self, t: float) -> tuple[float, float]:
        pixels, hertz, phase = self.sway
        a = 2 * np.pi * hertz * t + phase
        return (
            float(pixels * (np.sin(a) - np.sin(phase))),
            float(pixels * 0.6 * (np.sin(1.7 * a + 1) - np.sin(1.7 * phase + 1))),
        )


def random_scene(
    library: Library, poser: Poser, seed: list[int], size: tuple[int, int], seconds: float,
    pictures: list[Path] | None = None,
) -> Scene:  # fmt: skip
    """The scene of this seed: a call (close), a room, or a place seen from above."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["call", "room", "above"], p=[0.35, 0.5, 0.15]))
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.35, 0.05] if kind == "call" else [0.2, 0.5, 0.3]))
    acts = [random_act(library, poser, rng, seconds, kind == "call") for _ in range(count)]
    aspect = size[1] / size[0]
    field = np.tan(rng.uniform(0.42, 0.62) / (1 if kind == "call" else 1.3))  # half the height
    tall = max(act.posed(poser, seconds / 2).joint("head")[1] + 2 for act in acts)
    if kind == "call":
        distance = rng.uniform(7, 12) * (1 if count == 1 else 1.35)
        aim = tall - rng.uniform(2.0, 4.0)
        height = aim + rng.normal(0, 1.0)
    else:
        distance = tall / 2 / field * rng.uniform(0.75, 1.5)
        aim = tall * rng.uniform(0.4, 0.62)
        height = aim + rng.normal(1.5, 1.5)
        if kind == "above":
            height = aim + distance * rng.uniform(0.4, 1.0)
    half = distance * field * aspect
    placed: list[Act] = []
    crowd, ranks = rng.random() < 0.5, rng.permutation(count)
    slots = (rng.permutation(count) - (count - 1) / 2) / max(1, count)
    for act, slot in zip(acts, slots, strict=True):
        # Half of the time they stand in each other's way.
        closeness = rng.uniform(0.0, 0.35) if crowd else rng.uniform(0.3, 0.9)
        x = slot * 2 * half * closeness + rng.normal(0, 0.08) * half
        z = rng.uniform(-0.3, 0.2) * distance if count > 1 else 0.0
        if crowd:  # one behind the other, not one inside the other
            z = (ranks[len(placed)] - (count - 1) / 2) * rng.uniform(4.0, 7.0)
        yaw = rng.normal(0, 0.35 if kind == "call" else 0.9)
        if act.clip is not None:  # wherever the clip looks, start from the camera's way
            hips, _ = act.bones(poser, seconds / 2)
            forward = hips[0] @ [0, 0, 1]
            quarter = rng.choice([0, 1, -1, 2], p=[0.5, 0.2, 0.2, 0.1]) * np.pi / 2
            yaw += quarter - np.arctan2(forward[0], forward[2])
        placed.append(_with(act, yaw=float(yaw), place=np.float32([x, 0, z])))
    eye = np.float32([rng.normal(0, 0.1) * half, max(1.0, height), distance])
    target = np.float64([0, aim, 0])
    axes = render.look(eye, target, rng.normal(0, 0.02))
    camera = render.Camera(eye, axes, size[0] / 2 / float(field), (size[1] / 2, size[0] / 2), size)
    picture = None
    if pictures and rng.random() < 0.5:
        picture = cv2.imread(str(pictures[rng.integers(len(pictures))]))
    light = random_light(rng, None if picture is None else picture[..., ::-1])
    held = rng.random() < 0.45
    sway = (float(rng.uniform(1, 6)) if held else 0.0, rng.uniform(0.4, 1.2), rng.uniform(0, 6.28))
    return Scene(
        tuple(placed), camera, light, sway,
        shutter=float(rng.uniform(0.005, 0.02)) if rng.random() < 0.4 else 0.0,
        softness=float(rng.uniform(0.35, 0.8) if rng.random() < 0.8 else rng.uniform(0.8, 2.2)),
        rng_exposure=int(rng.integers(2**31)),
    )  # fmt: skip


def _window(posed: render.Posed, camera: render.Camera) -> tuple[slice, slice] | None:
    """Rows and columns of pixels a person can touch, or None."""
    places = camera.project(posed.vertices)
    places = places[places[:, 2] > 0]
    if not len(places):
        return None
    height, width = camera.size
    x0, y0 = np.maximum(0, np.floor(places[:, :2].min(0)) - 2).astype(int)
    x1 = min(width, int(places[:, 0].max()) + 3)
    y1 = min(height, int(places[:, 1].max()) + 3)
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


class Glow:
    """Light of the surroundings on everyone over time: looked up every GLOW_STEP, and gone
    between evenly, since it changes slowly and costs as much as the drawing."""

    def __init__(self, scene: Scene, poser: Poser) -> None:
        self.scene, self.poser = scene, poser
        self.known: dict[tuple[int, int], np.ndarray] = {}

    def at(self, person: int, t: float) -> np.ndarray:
        """(V, 3) for this person at second t."""
        step = t / GLOW_STEP
        low, share = int(step), np.float32(step - int(step))
        for old in [k for k in self.known if k[1] < low - 1]:
            del self.known[old]
        if share < 1e-3:
            return self._key(person, low)
        return self._key(person, low) * (1 - share) + self._key(person, low + 1) * share

    def _key(self, person: int, k: int) -> np.ndarray:
        if (person, k) not in self.known:
            posed = self.scene.acts[person].posed(self.poser, k * GLOW_STEP)
            self.known[person, k] = render.ambient(posed, self.scene.light)
        return self.known[person, k]


def expose(
    scene: Scene, poser: Poser, t: float, grid: int, shift: tuple[float, float], glow: Glow
) -> tuple[np.ndarray, np.ndarray]:
    """One instant: (P, H, W, 4) visible premultiplied linear colour and alpha of each person, and
    (P, H, W) the alpha each would have alone."""
    height, width = scene.camera.size
    visible = np.zeros((len(scene.acts), height, width, 4), np.float32)
    alone = np.zeros((len(scene.acts), height, width), np.float32)
    drawn: list[tuple[int, tuple[slice, slice], render.Samples]] = []
    dx, dy = scene.shake(t)
    camera = scene.camera
    moved = render.Camera(
        camera.eye, camera.axes, camera.focal, (camera.centre[0] + dx, camera.centre[1] + dy),
        camera.size,
    )  # fmt: skip
    for i, act in enumerate(scene.acts):
        posed = act.posed(poser, t)
        window = _window(posed, moved)
        if window is None:
            continue
        rows, columns = window
        part = render.Camera(
            moved.eye, moved.axes, moved.focal,
            (moved.centre[0] - columns.start, moved.centre[1] - rows.start),
            (rows.stop - rows.start, columns.stop - columns.start),
        )  # fmt: skip
        fine = render.draw(posed, part, scene.light, grid, shift, glow.at(i, t), block=grid)
        drawn.append((i, window, fine))
    for i, window, fine in drawn:
        rest = np.ones(fine.nearness.shape, np.float32)
        for j, other, theirs in drawn:
            if i != j:
                _cover(rest, window, fine, other, theirs, grid, behind_if_equal=i > j)
        alone[(i, *window)] = render.to_pixels(fine.rgba[..., 3], grid)
        visible[(i, *window)] = render.to_pixels(fine.rgba * rest[..., None], grid)
    return visible, alone


def _cover(
    rest: np.ndarray, window: tuple[slice, slice], fine: render.Samples,
    other: tuple[slice, slice], theirs: render.Samples, grid: int, behind_if_equal: bool,
) -> None:  # fmt: skip
    """Take from `rest` what the other person covers: their alpha where they are nearer."""
    spans = [
        (max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(window, other, strict=True)
    ]
    if any(low >= high for low, high in spans):
        return
    mine, ours = (
        tuple(slice((low - w.start) * grid, (high - w.start) * grid)
              for (low, high), w in zip(spans, windows, strict=True))
        for windows in (window, other)
    )  # fmt: skip
    a, b = fine.nearness[mine], theirs.nearness[ours]
    before = b >= a if behind_if_equal else b > a
    rest[mine] *= np.where(before, 1 - theirs.rgba[ours][..., 3], 1)


def frames(scene: Scene, poser: Poser, times: np.ndarray) -> Iterator[Frame]:
    """The scene at these seconds."""
    gain: float | None = None
    glow = Glow(scene, poser)
    for t in times:
        if scene.shutter:
            rng = np.random.default_rng([scene.rng_exposure, round(t * 1000)])
            shots = [
                expose(scene, poser, max(0.0, t + scene.shutter * (k / (SHOTS - 1) - 0.5)), 2,
                       tuple((rng.random(2) - 0.5) / 2), glow)
                for k in range(SHOTS)
            ]  # fmt: skip
            visible = np.mean([v for v, _ in shots], 0, dtype=np.float32)
            alone = np.mean([a for _, a in shots], 0, dtype=np.float32)
        else:
            visible, alone = expose(scene, poser, t, 3, (0.0, 0.0), glow)
        visible = np.stack([cv2.GaussianBlur(v, (0, 0), scene.softness) for v in visible])
        alone = np.stack([cv2.GaussianBlur(a, (0, 0), scene.softness) for a in alone])
        everyone = visible.sum(0)
        if gain is None:
            gain = exposure(everyone, np.random.default_rng(scene.rng_exposure))
        rgb, _ = render.develop(everyone, gain)
        seen, total = visible[..., 3].sum((1, 2)), alone.sum((1, 2))
        yield Frame(
            rgb, _codes(visible[..., 3]), [box_of((a * 255).astype(np.uint8)) for a in alone],
            [float(np.clip(1 - s / max(w, 1e-3), 0, 1)) for s, w in zip(seen, total, strict=True)],
            scene.shake(t),
        )  # fmt: skip


def _codes(alpha: np.ndarray) -> np.ndarray:
    """(P, H, W) alpha 0 to 1 -> uint8 whose sum over people stays within 255."""
    codes = np.clip(alpha * 255 + 0.5, 0, 255).astype(np.uint8)
    over = codes.sum(0, dtype=np.int32) - 255
    if (over > 0).any():  # rounding up twice: the larger share gives
        largest = codes.argmax(0)
        rows, columns = np.nonzero(over > 0)
        codes[largest[rows, columns], rows, columns] -= over[rows, columns].astype(np.uint8)
    return codes


# --- on disk -------------------------------------------------------------------------------------


def write(scene: Scene, poser: Poser, folder: Path, seed: list[int], seconds: float, rate: float
          ) -> None:  # fmt: skip
    """Render the scene into `folder`, which is there only when all of it is."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    table = []
    times = np.arange(round(seconds * rate)) / rate
    for k, frame in enumerate(frames(scene, poser, times)):
        people = len(frame.alpha)
        planes = [*frame.alpha]
        if people == 2:
            planes.append(np.zeros_like(planes[0]))
        picture = planes[0] if people == 1 else np.dstack(planes)
        save = (
            (f"rgb_{k:03d}.webp", frame.rgb[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 90]),
            (f"alpha_{k:03d}.png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3]),
        )
        for name, image, how in save:
            if not cv2.imwrite(str(part / name), np.ascontiguousarray(image), how):
                raise OSError(f"{part / name}: could not be written")
        table.append({
            "shake": [round(s, 3) for s in frame.shake], "boxes": frame.boxes,
            "whole": frame.whole, "hidden": [round(h, 4) for h in frame.hidden],
        })  # fmt: skip
    about = {
        "seed": seed, "rate": rate, "size": list(scene.camera.size),
        "ids": list(range(1, len(scene.acts) + 1)), "frames": table,
    }  # fmt: skip
    (part / "scene.json").write_text(json.dumps(about), encoding="utf-8")
    part.replace(folder)
