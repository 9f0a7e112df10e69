"""People over a background, with the alpha of every one of them known exactly.

A `Scene` is a description (who, where, in front of whom, moving how); `render` turns it into a
picture at a moment.  One seed gives one scene, always.  Layers are painted from the back; what a
later layer covers is taken from the alpha of everyone beneath it, so the visible alphas of a
picture never sum to more than 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from matting.synthesis.camera import apply_table, expose, light_field, motion_kernel, tone_table
from matting.synthesis.sources import Cutout, Photo, Sources

RENDERED = 0.4  # of people in scenes, where there are rendered ones: poses photographs lack
SMALLEST = 0.0008  # of the picture: below this a visible rest is not called a person


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labelled picture.  P people, ordered from back to front."""

    rgb: np.ndarray  # (H, W, 3) uint8
    alpha: np.ndarray  # (P, H, W) uint8, visible part
    contrast: np.ndarray  # (P, H, W) uint8, mean |F - B| where known, 0 elsewhere
    known: np.ndarray  # (H, W) bool: alpha is exact here
    everyone: np.ndarray  # (H, W) uint8: alpha of all people together
    instances: bool  # False: only `everyone` is labelled, P = 0
    ids: tuple[int, ...] = ()  # who is who over the frames of one scene

    @property
    def outline(self) -> np.ndarray | None:
        """`everyone`, if no outline in it was drawn by hand: then light may follow it."""
        return self.everyone if self.instances and self.contrast.any((1, 2)).all() else None


@dataclass(frozen=True, slots=True)
class Motion:
    """Where something is at time t (seconds): start + speed t + a sway."""

    speed: tuple[float, float] = (0.0, 0.0)  # picture heights per second, x and y
    sway: float = 0.0  # picture heights
    turn: float = 0.0  # radians
    hertz: float = 0.5
    phase: float = 0.0

    def at(self, t: float) -> tuple[float, float, float]:
        """dx, dy in picture heights and rotation in radians, since t = 0."""
        wave = np.sin(2 * np.pi * self.hertz * t + self.phase) - np.sin(self.phase)
        bounce = np.cos(2 * np.pi * 2 * self.hertz * t + self.phase) - np.cos(self.phase)
        dx, dy = self.speed[0] * t + self.sway * wave, self.speed[1] * t + self.sway * bounce / 3
        return dx, dy, self.turn * wave


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """One layer with a place: a person, or a thing in front of people."""

    cutout: Cutout
    foot: tuple[float, float]  # x, y of the lower middle, in picture heights (x) and heights (y)
    height: float  # of the cut-out, in picture heights
    wide: float = 1.0  # extra horizontal stretch
    turn: float = 0.0  # radians
    flip: bool = False
    table: np.ndarray | None = None
    light: np.ndarray | None = None
    blur: np.ndarray | None = None  # motion blur kernel
    motion: Motion = Motion()
    person: bool = True
    id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    size: tuple[int, int]  # (H, W) of the picture
    background: np.ndarray  # (H, W, 3) uint8
    actors: Sequence[Actor]  # from back to front
    photo_ids: np.ndarray | None = None  # labels of people already in the background
    instances: bool = True
    shake: Motion = field(default_factory=Motion)
    exposure_seed: int | None = None  # None: a perfect camera


def place(actor: Actor, size: tuple[int, int], t: float, shake: Motion) -> np.ndarray:
    """2x3 affine from the cut-out's pixels to the picture's."""
    height, _ = size
    h, w = actor.cutout.alpha.shape
    dx, dy, spin = actor.motion.at(t)
    sx, sy, _ = shake.at(t)
    angle = actor.turn + spin
    scale_y = actor.height * height / h
    scale_x = scale_y * actor.wide * (-1 if actor.flip else 1)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale_x, scale_y])
    foot = np.array([actor.foot[0] + dx + sx, actor.foot[1] + dy + sy]) * height
    return np.column_stack([linear, foot - linear @ [w / 2, h]])


def render(scene: Scene, t: float = 0.0) -> Sample:
    height, width = scene.size
    canvas = scene.background
    ids = scene.photo_ids
    if scene.shake.sway:
        sx, sy, _ = scene.shake.at(t)
        move = np.float32([[1, 0, sx * height], [0, 1, sy * height]])
        canvas = cv2.warpAffine(canvas, move, (width, height), borderMode=cv2.BORDER_REFLECT)
        if ids is not None:
            ids = cv2.warpAffine(ids, move, (width, height), flags=cv2.INTER_NEAREST)
    canvas = canvas.copy()
    known = np.ones((height, width), bool)
    alphas: list[np.ndarray] = []  # of people, float32 0..1, kept visible
    contrasts: list[np.ndarray] = []
    names: list[int] = []

    if ids is not None:  # outlines drawn by hand are right to a few pixels
        doubt = max(3, height // 60) | 1
        edge = cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((doubt, doubt), np.uint8))
        known &= edge == 0
        for value in np.unique(ids[ids > 0]) if scene.instances else ():
            alphas.append((ids == value).astype(np.float32))
            contrasts.append(np.zeros((height, width), np.float32))
            names.append(1000 + int(value))
    everyone = np.zeros((height, width), np.float32) if ids is None else np.float32(ids > 0)

    for actor in scene.actors:
        matrix = place(actor, scene.size, t, scene.shake)
        window = reach(actor, matrix, scene.size)
        if window is None:
            continue
        rows, columns = window
        matrix[:, 2] -= columns.start, rows.start
        box = (columns.stop - columns.start, rows.stop - rows.start)
        rgb, alpha = shrink_then_warp(actor.cutout, matrix, box)
        if actor.table is not None:
            rgb = apply_table(rgb, actor.table)
        rgb = rgb.astype(np.float32)
        if actor.light is not None:
            rgb *= actor.light[window]
        alpha = alpha.astype(np.float32) / 255
        if actor.blur is not None:
            rgb = cv2.filter2D(rgb, -1, actor.blur)
            alpha = cv2.filter2D(alpha, -1, actor.blur)
        rgb = np.clip(rgb, 0, 255)
        behind = canvas[window].astype(np.float32)
        rest = 1 - alpha
        for below in (*alphas, *contrasts, everyone):
            below[window] *= rest
        known[window] |= alpha > 0.98
        if actor.person:
            everyone[window] += alpha
            mine, contrast = np.zeros((2, height, width), np.float32)
            mine[window], contrast[window] = alpha, cv2.absdiff(rgb, behind).mean(2)
            alphas.append(mine)
            contrasts.append(contrast)
            names.append(actor.id)
        canvas[window] = behind + (rgb - behind) * alpha[..., None]

    kept = []
    for i, alpha in enumerate(alphas):
        if alpha.mean() >= SMALLEST:
            kept.append(i)
        else:  # too little left to be asked for, and not background either
            known &= alpha < 0.02
    if scene.exposure_seed is not None:
        camera = np.random.default_rng(scene.exposure_seed)
        canvas = expose(canvas, camera, moment=round(t * 1000))

    def codes(maps: list[np.ndarray], scale: float) -> np.ndarray:
        if not kept:
            return np.zeros((0, height, width), np.uint8)
        return np.stack([np.clip(maps[i] * scale + 0.5, 0, 255).astype(np.uint8) for i in kept])

    return Sample(
        rgb=canvas, alpha=codes(alphas, 255), contrast=codes(contrasts, 1), known=known,
        everyone=np.clip(everyone * 255 + 0.5, 0, 255).astype(np.uint8),
        instances=scene.instances, ids=tuple(names[i] for i in kept),
    )  # fmt: skip


def reach(
    actor: Actor, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """The rows and columns of the picture an actor can touch, or None if it is out of view."""
    h, w = actor.cutout.alpha.shape
    corners = matrix[:, :2] @ np.array([[0, w, 0, w], [0, 0, h, h]]) + matrix[:, 2:]
    margin = 1 + (0 if actor.blur is None else len(actor.blur))
    x0, y0 = np.maximum(0, np.floor(corners.min(1)) - margin).astype(int)
    x1 = min(size[1], int(corners[0].max()) + margin)
    y1 = min(size[0], int(corners[1].max()) + margin)
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def shrink_then_warp(
    cutout: Cutout, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Warp colour and alpha to (W, H) `size`, without aliasing when the cut-out gets smaller."""
    rgb, alpha = cutout.rgb, cutout.alpha
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.7:
        factor = max(scale, 4 / min(alpha.shape))
        rgb = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(alpha, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        back = np.diag([cutout.alpha.shape[1] / alpha.shape[1],
                        cutout.alpha.shape[0] / alpha.shape[0]])  # fmt: skip
        matrix = np.column_stack([matrix[:, :2] @ back, matrix[:, 2]])
    rgb = cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return rgb, cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)


def a_part(
    whole: tuple[int, int], size: tuple[int, int], rng: np.random.Generator, smallest: float
) -> tuple[tuple[slice, slice], bool]:
    """Rows and columns of a random part of an (H, W) `whole`, with about the aspect of `size` and
    at least `smallest` of what fits; and whether it is to be mirrored."""
    h, w = whole
    aspect = size[1] / size[0] * np.exp(rng.normal(0, 0.08))
    high = min(h, w / aspect) * rng.uniform(smallest, 1)
    wide = min(w, high * aspect)
    y, x = int(rng.uniform(0, h - high)), int(rng.uniform(0, w - wide))
    rows, columns = slice(y, y + max(2, int(high))), slice(x, x + max(2, int(wide)))
    return (rows, columns), bool(rng.random() < 0.5)


def crop_to(
    rgb: np.ndarray, ids: np.ndarray | None, size: tuple[int, int], rng: np.random.Generator,
    smallest: float,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """A random part of a picture, as `a_part` chooses it, at (H, W) `size`."""
    part = a_part(rgb.shape[:2], size, rng, smallest)
    return cut(rgb, part, size), None if ids is None else cut(ids, part, size, cv2.INTER_NEAREST)


def cut(
    picture: np.ndarray, part: tuple[tuple[slice, slice], bool], size: tuple[int, int],
    how: int | None = None,
) -> np.ndarray:  # fmt: skip
    """What `a_part` chose of a picture, at (H, W) `size`, resized as `how` says or suits colour."""
    window, mirrored = part
    shown = picture[window][:, ::-1] if mirrored else picture[window]
    if how is None:
        how = cv2.INTER_AREA if len(shown) >= size[0] else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(shown), size[::-1], interpolation=how)


def crop_photo(photo: Photo, size: tuple[int, int], rng: np.random.Generator) -> tuple:
    """A part of a photograph that still shows someone; tries a few, then takes what it has."""
    for _ in range(4):
        rgb, ids = crop_to(photo.rgb, photo.ids, size, rng, 0.45)
        if (ids > 0).mean() > 0.01:
            break
    return rgb, ids


def random_actor(
    cutout: Cutout, size: tuple[int, int], rng: np.random.Generator, near: Actor | None, t: float
) -> Actor:
    """A person somewhere: full figure, waist up, or close up; often overlapping `near`."""
    aspect = size[1] / size[0]
    shape = rng.random()
    if not cutout.grounded:  # cut by its own picture's frame: the cut must lie on ours
        height, foot_y = rng.uniform(0.45, 1.25), 1.0 + rng.uniform(0, 0.25)
    elif shape < 0.45:
        height = rng.uniform(0.3, 1.0)
        foot_y = rng.uniform(max(0.6, height), 1.08)
    elif shape < 0.8:  # head and body down to somewhere between knee and chest
        height = rng.uniform(1.0, 2.2)
        foot_y = rng.uniform(0.05, 0.45) + height
    else:
        height = rng.uniform(2.2, 4.0)
        foot_y = rng.uniform(-0.05, 0.35) + height
    if near is not None and rng.random() < 0.65:
        height = height if not cutout.grounded else near.height * np.exp(rng.normal(0, 0.25))
        foot_y = near.foot[1] + rng.normal(0, 0.1) if cutout.grounded else foot_y
        spread = 0.1 if rng.random() < 0.5 else 0.22  # one behind the other, or side by side
        x = near.foot[0] + rng.normal(0, spread) * max(0.6, min(height, 1.8))
    else:
        x = rng.uniform(0.0, aspect)
    turn = rng.normal(0, 0.08) if rng.random() < 0.85 else rng.uniform(-1.6, 1.6)
    squat = rng.uniform(1.1, 1.6) if cutout.grounded and rng.random() < 0.25 else 1.0
    motion = Motion(
        speed=(rng.normal(0, 0.25), rng.normal(0, 0.02)), sway=abs(rng.normal(0, 0.03)),
        turn=rng.normal(0, 0.05), hertz=rng.uniform(0.3, 1.2), phase=rng.uniform(0, 6.28),
    )  # fmt: skip
    return Actor(
        cutout, (float(x), float(foot_y)), float(height / squat),
        wide=float(squat * np.exp(rng.normal(0, 0.06))),
        turn=float(turn if cutout.grounded else turn * 0.2), flip=bool(rng.random() < 0.5),
        table=tone_table(rng, rng.uniform(0.4, 1.3)) if rng.random() < 0.8 else None,
        light=light_field(rng, size, rng.uniform(0.1, 0.35)) if rng.random() < 0.35 else None,
        blur=motion_kernel(rng, int(rng.integers(3, max(5, size[0] // 24))) | 1)
        if rng.random() < 0.15 else None,
        motion=motion,
    )  # fmt: skip


def without_head(actor: Actor, rng: np.random.Generator) -> Actor:
    """The same person, so that the picture begins below their chin: a trunk, or only legs."""
    grounded = actor.cutout.grounded
    above = rng.uniform(0.2, 0.75) if grounded else rng.uniform(0.5, 0.8)  # of them
    seen = rng.uniform(0.5, 1.6) if grounded else rng.uniform(1.0, 1.5)  # of the picture, or more
    return replace(
        actor, foot=(actor.foot[0], float(seen)), height=float(seen / (1 - above)),
        turn=float(np.clip(actor.turn, -0.1, 0.1)),
    )  # fmt: skip


def close_up(actor: Actor, aspect: float, rng: np.random.Generator) -> Actor:
    """The same person so near that a face can fill the picture, if their own picture was of less
    than a whole figure: of one, too few pixels are a face."""
    if actor.cutout.grounded:
        return actor
    height = float(np.exp(rng.uniform(np.log(1.6), np.log(4.5))))
    foot = rng.uniform(0.2, 0.8) * aspect, rng.uniform(-0.25, 0.15) + height
    return replace(actor, foot=foot, height=height)


def random_thing(sources: Sources, size: tuple[int, int], rng: np.random.Generator) -> Actor:
    """Something that is no one, in front: a table edge, a plant, a chair back."""
    texture = sources.backgrounds[rng.integers(len(sources.backgrounds))]
    side = 160
    rgb, _ = crop_to(texture, None, (side, side), rng, 0.3)
    alpha = np.zeros((side, side), np.uint8)
    if rng.random() < 0.4:
        alpha[:] = 255
        table = Actor(Cutout(rgb, alpha, True), (rng.uniform(0, size[1] / size[0]), 1.1),
                      rng.uniform(0.15, 0.4), wide=rng.uniform(2, 12),
                      turn=rng.normal(0, 0.08), person=False)  # fmt: skip
        return table
    points = [
        (side / 2 * (1 + r * np.cos(a)), side / 2 * (1 + r * np.sin(a)))
        for a, r in zip(np.sort(rng.uniform(0, 2 * np.pi, 9)), rng.uniform(0.4, 1, 9), strict=True)
    ]
    cv2.fillPoly(alpha, [np.int32(points)], 255, lineType=cv2.LINE_AA)
    return Actor(
        Cutout(rgb, alpha, True), (rng.uniform(0, size[1] / size[0]), rng.uniform(0.3, 1.2)),
        rng.uniform(0.1, 0.4), wide=rng.uniform(0.5, 2), person=False,
    )  # fmt: skip


def random_scene(
    sources: Sources, size: tuple[int, int], seed: Sequence[int] | int, *, photos: float = 0.35,
    empty: float = 0.0, headless: float = 0.0, close_ups: float = 0.0,
) -> Scene:  # fmt: skip
    """The scene of this seed: 0 to 6 people over an empty background, or, with probability
    `photos`, a labelled photograph, sometimes with one more person in front of it.  A share `empty`
    of the former shows nobody, beside those that are empty anyway; of a share `headless` of the
    people the head is out of the picture, and a share `close_ups` of half figures is very near."""
    rng = np.random.default_rng(seed)
    actors: list[Actor] = []
    ids, instances = None, True

    def someone() -> Cutout:
        if sources.rendered and rng.random() < RENDERED:
            return sources.rendered[rng.integers(len(sources.rendered))]
        return sources.cutouts[rng.integers(len(sources.cutouts))]

    if sources.photos and rng.random() < photos:
        photo = sources.photos[rng.integers(len(sources.photos))]
        background, ids = crop_photo(photo, size, rng)
        instances = photo.instances
        people = int(instances and rng.random() < 0.3)
    else:
        background = sources.backgrounds[rng.integers(len(sources.backgrounds))]
        background, _ = crop_to(background, None, size, rng, 0.5)
        if rng.random() < 0.35:  # a lens open wide
            background = cv2.GaussianBlur(background, (0, 0), rng.uniform(1, size[0] / 60))
        people = int(rng.choice(7, p=[0.07, 0.27, 0.28, 0.17, 0.11, 0.06, 0.04]))
        if empty and rng.random() < empty:
            people = 0
    for i in range(people):
        near = actors[-1] if actors else None
        actor = random_actor(someone(), size, rng, near, 0.0)
        actors.append(replace(actor, id=i + 1))
    if headless:
        dice = np.random.default_rng([*np.atleast_1d(seed).tolist(), 5])
        actors = [without_head(a, dice) if dice.random() < headless else a for a in actors]
    if close_ups:
        dice, aspect = np.random.default_rng([*np.atleast_1d(seed).tolist(), 6]), size[1] / size[0]
        actors = [close_up(a, aspect, dice) if dice.random() < close_ups else a for a in actors]
    order = np.argsort([a.foot[1] + rng.normal(0, 0.15) for a in actors])  # nearer is lower
    actors = [actors[i] for i in order]
    while rng.random() < 0.2:
        actors.insert(int(rng.integers(len(actors) + 1)), random_thing(sources, size, rng))
    if actors and rng.random() < 0.3:  # soft shadow of the front person on what is behind
        background = _shadowed(background, actors[-1], size, rng)
    return Scene(
        size, background, actors, ids, instances,
        shake=_held(rng),
        exposure_seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _held(rng: np.random.Generator) -> Motion:
    """How the camera is held: on a stand, in a hand, or turned to follow."""
    how, phase = rng.random(), rng.uniform(0, 6)
    if how < 0.4:
        return Motion()
    if how < 0.75:
        return Motion(sway=0.004, hertz=rng.uniform(0.5, 3), phase=phase)
    return Motion(sway=rng.uniform(0.01, 0.1), hertz=rng.uniform(0.1, 0.5), phase=phase)


def _shadowed(
    background: np.ndarray, actor: Actor, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    matrix = place(actor, size, 0.0, Motion())
    matrix[:, 2] += rng.normal(0, 0.05, 2) * size[0]
    shape = cv2.warpAffine(actor.cutout.alpha, matrix, (size[1], size[0]))
    soft = cv2.blur(shape, (size[0] // 12 | 1,) * 2).astype(np.float32) / 255
    return (background * (1 - rng.uniform(0.2, 0.6) * soft[..., None])).astype(np.uint8)


def sequence(
    sources: Sources, size: tuple[int, int], seed: Sequence[int] | int, *, frames: int,
    rate: float, **shares: float,
) -> Iterator[Sample]:  # fmt: skip
    """The scene of this seed over time, everyone with a motion of their own, the camera with its
    shake; `shares` as in `random_scene`, `photos` being 0 unless it is said."""
    scene = random_scene(sources, size, seed, **{"photos": 0.0, **shares})
    for i in range(frames):
        yield render(scene, i / rate)
