"""A posed person, a camera and a light -> samples of colour, alpha and depth -> pixels.

Everything in here is linear light and premultiplied alpha, until `develop` makes a picture of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from matting.synthesis.humans.assets import Rig
from matting.synthesis.humans.body import Person
from matting.synthesis.humans.light import DIRECTIONS, Light, frame_of, sphere
from matting.synthesis.humans.pose import pose_mesh
from matting.synthesis.humans.raster import blend, cut, shade_solid, solid, vertex_normals

NEAR = 1.0  # decimetres before the lens; nothing nearer is drawn
SHADOW_SIDE, AROUND_SIDE = 640, 112  # texels of the lamp's map and of the maps for surroundings
LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A pinhole: x right, y down on the picture, depth along `forward`."""

    eye: np.ndarray  # (3,) float32, decimetres
    axes: np.ndarray  # (3, 3) float32 rows: right, up, forward
    focal: float  # pixels
    centre: tuple[float, float]  # x, y of the optical axis, pixels
    size: tuple[int, int]  # (H, W) pixels

    def project(self, points: np.ndarray) -> np.ndarray:
        """(V, 3) float32: x, y in pixels, 1 / depth (not positive where too near or behind)."""
        seen = (points - self.eye) @ self.axes.T
        depth = seen[:, 2]
        safe = np.where(depth > NEAR, depth, 1.0)
        x = self.centre[0] + self.focal * seen[:, 0] / safe
        y = self.centre[1] - self.focal * seen[:, 1] / safe
        return np.stack([x, y, np.where(depth > NEAR, 1 / safe, -1.0)], 1).astype(np.float32)


def look(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """(3, 3) axes of a camera at `eye` that looks at `target`, turned by `roll` radians."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= max(1e-6, np.linalg.norm(right))
    up = np.cross(right, forward)
    cos, sin = np.cos(roll), np.sin(roll)
    return np.array([right * cos + up * sin, up * cos - right * sin, forward], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A person packed for the rasteriser; made once, posed many times."""

    person: Person
    rig: Rig
    heads: np.ndarray  # (B, 3) joints in rest
    texels: np.ndarray  # every texture, flat uint8
    tables: np.ndarray  # (M, 3) int64: start, height, width of each
    kinds: np.ndarray  # (M,) int64
    solid: np.ndarray  # (T,) bool
    blended: np.ndarray  # (T,) bool
    hair: np.ndarray  # (T,) bool: blended, and thick enough to throw a shadow
    one_sided: np.ndarray  # (T,) bool
    strands: np.ndarray  # (K,) vertices of hair


def pack(person: Person, rig: Rig) -> Figure:
    start, texels, tables = 0, [], []
    for material in person.materials:
        height, width = material.texture.shape[:2]
        tables.append((start, height, width))
        texels.append(material.texture.reshape(-1))
        start += material.texture.size
    blended = np.array([m.blended for m in person.materials])[person.material]
    sides = np.array([not m.two_sided for m in person.materials])[person.material]
    first = person.material[blended].min(initial=len(person.materials))  # hair, if there is any
    hair = blended & (person.material == first)
    heads, _ = rig.joints(person.base)
    return Figure(
        person, rig, heads, np.concatenate(texels), np.int64(tables),
        np.int64([m.kind for m in person.materials]), ~blended, blended, hair, sides,
        np.unique(person.triangles[blended]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Posed:
    """A figure in one pose, with its normals: what the camera and the lights see."""

    figure: Figure
    vertices: np.ndarray  # (V, 3) float32
    joints: np.ndarray  # (B, 3) float32
    normals: np.ndarray  # (V, 3) float32

    def joint(self, name: str) -> np.ndarray:
        return self.joints[self.figure.rig.number[name]]

    def moved(self, turn: np.ndarray, by: np.ndarray) -> Posed:
        """Turned about the origin, then moved."""
        turn, by = turn.astype(np.float32), np.float32(by)
        return Posed(
            self.figure, self.vertices @ turn.T + by, self.joints @ turn.T + by,
            np.ascontiguousarray(self.normals @ turn.T),
        )  # fmt: skip


def pose(figure: Figure, bones: np.ndarray) -> Posed:
    person = figure.person
    vertices, joints = pose_mesh(person.vertices, person.weights, figure.rig, figure.heads, bones)
    normals = vertex_normals(vertices, person.triangles)
    if len(figure.strands):  # cards of hair are lit as the volume that they stand for
        head = (joints[figure.rig.number["head"]]
                + bones[figure.rig.number["head"]] @ np.float32([0, 0.7, 0.2]))  # fmt: skip
        outward = vertices[figure.strands] - head
        outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
        own = normals[figure.strands]
        own = own * np.where((own * outward).sum(1, keepdims=True) < 0, -1, 1)
        mixed = outward + 0.5 * own
        normals[figure.strands] = mixed / (np.linalg.norm(mixed, axis=1, keepdims=True) + 1e-6)
    return Posed(figure, vertices, joints, normals.astype(np.float32))


def _onto(vertices: np.ndarray, axes: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """(V, 3): places on a square map seen from far along axes[2], and texels per decimetre."""
    seen = axes @ vertices.T  # rows, for fast extremes
    low, high = seen.min(1), seen.max(1)
    scale = (side - 4) / max(high[0] - low[0], high[1] - low[1], 1e-3)
    places = np.empty((len(vertices), 3), np.float32)
    places[:, 0], places[:, 1] = (seen[0] - low[0]) * scale + 2, (seen[1] - low[1]) * scale + 2
    places[:, 2] = seen[2] - low[2] + 1
    return places, scale


def depth_map(posed: Posed, axes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """What a far light along axes[2] sees: (side, side) nearness, and each vertex's place on it."""
    figure, person = posed.figure, posed.figure.person
    places, _ = _onto(posed.vertices, axes, side)
    near = np.zeros((side, side), np.float32)
    owner = np.empty((side, side), np.int32)
    both = np.zeros(len(person.triangles), bool)
    solid(places, person.triangles, figure.solid, both, near, owner)
    if figure.hair.any():
        cut(places, person.triangles, figure.hair, person.uv, person.material, figure.texels,
            figure.tables, near)  # fmt: skip
    return near, places


def ambient(posed: Posed, light: Light, directions: int = DIRECTIONS) -> np.ndarray:
    """(V, 3) light of the surroundings at each vertex, where the body does not hide them."""
    total = np.zeros((len(posed.vertices), 3), np.float32)
    ways = sphere(directions)
    for way, radiance in zip(ways, light.radiance(ways), strict=True):
        near, places = depth_map(posed, frame_of(way), AROUND_SIDE)
        near = cv2.blur(near, (3, 3))  # soft where a silhouette ends
        x, y = places[:, 0].astype(int), places[:, 1].astype(int)
        hidden = np.clip((near[y, x] - places[:, 2] - 0.2) / 0.4, 0, 1)
        facing = np.maximum(posed.normals @ way, 0) * (1 - hidden)
        total += facing[:, None] * radiance * np.float32(4 / directions)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A person as seen, on the fine grid of the samples."""

    rgba: np.ndarray  # (h, w, 4) float32 premultiplied linear
    nearness: np.ndarray  # (h, w) float32: 1 / depth of what is in front, 0 = nothing


def draw(
    posed: Posed, camera: Camera, light: Light, grid: int,
    shift: tuple[float, float] = (0.0, 0.0), around: np.ndarray | None = None, block: int = 2,
) -> Samples:  # fmt: skip
    """The person on grid x grid samples a pixel; `shift` moves the grid, in pixels.

    `around`: what `ambient` gave, to use it again for the next moments.  `block`: samples along
    the side of a block in which a triangle is lit once.
    """
    figure, person = posed.figure, posed.figure.person
    height, width = camera.size[0] * grid, camera.size[1] * grid
    screen = camera.project(posed.vertices)
    screen[:, :2] = (screen[:, :2] + np.float32(shift)) * grid
    nearness = np.zeros((height, width), np.float32)
    owner = np.full((height, width), -1, np.int32)
    solid(screen, person.triangles, figure.solid, figure.one_sided, nearness, owner)

    shadow, places = depth_map(posed, frame_of(light.key), SHADOW_SIDE)
    if around is None:
        around = ambient(posed, light)
    points = np.concatenate([posed.normals, around, places, posed.vertices], 1)
    rgba = np.zeros((height, width, 4), np.float32)
    common = (
        person.triangles, person.uv, person.material, figure.kinds, figure.texels, figure.tables,
        LINEAR, np.ascontiguousarray(points), camera.eye.astype(np.float32), shadow, 0.12,
        light.key, light.key_colour, rgba,
    )  # fmt: skip
    shade_solid(screen, owner, nearness, *common, block)
    front = nearness.copy()
    chosen = np.nonzero(figure.blended)[0]
    if len(chosen):
        far = screen[person.triangles[chosen], 2].mean(1)
        blend(chosen[np.argsort(far, kind="stable")].astype(np.int64), screen, nearness, *common,
              front)  # fmt: skip
    return Samples(rgba, front)


def to_pixels(fine: np.ndarray, grid: int) -> np.ndarray:
    """Mean over grid x grid samples."""
    height, width = fine.shape[0] // grid, fine.shape[1] // grid
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)


def develop(rgba: np.ndarray, exposure: float, *, spread: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied linear (H, W, 4) -> straight (H, W, 3) uint8, colour carried on beyond the
    edge, and (H, W) uint8 alpha.  Highlights roll off instead of burning."""
    alpha = np.clip(rgba[..., 3], 0, 1)
    colour = rgba[..., :3] / np.maximum(rgba[..., 3:], 1e-4)
    light = colour * exposure
    light = np.where(light < 0.7, light, 0.7 + 0.3 * (1 - np.exp(-(light - 0.7) / 0.3)))
    rgb = np.clip(np.maximum(light, 0) ** (1 / 2.2), 0, 1).astype(np.float32)
    weight = np.where(alpha > 0.02, alpha, 0).astype(np.float32)
    total, kept = weight, rgb.copy()
    for side in (spread | 1, (4 * spread) | 1, (24 * spread) | 1):
        near = cv2.blur(weight, (side, side))
        mean = cv2.blur(rgb * weight[..., None], (side, side))
        empty = (total <= 0.02) & (near > 1e-4)
        kept[empty] = mean[empty] / near[empty][:, None]
        total = np.where(empty, 1, total)
    return (kept * 255 + 0.5).astype(np.uint8), (alpha * 255 + 0.5).astype(np.uint8)
