"""Poses: motion capture carried over to the rig, poses made up, and skinning by them.

A pose is the rotation of every bone in the world, (B, 3, 3), identity in rest; so two rigs agree
on it however their bones are laid out.  Clips of other skeletons say how hips, chest, head, arms
and legs turn; `Retarget` corrects for limbs that hang otherwise in their rest pose (arms down, arms
out) by the smallest rotation that takes our limb's rest direction to theirs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

from matting.synthesis.humans.assets import Library, Rig
from matting.synthesis.sources import DataError

# Parts of a person every skeleton knows, parents first; "l" and "r" are the person's own.
PARTS = (
    "hips", "chest", "neck", "head",
    "l collar", "l upper arm", "l forearm", "l hand", "r collar", "r upper arm", "r forearm",
    "r hand", "l thigh", "l shin", "l foot", "r thigh", "r shin", "r foot",
)  # fmt: skip
PART = {name: i for i, name in enumerate(PARTS)}
PARENT = {
    "chest": "hips", "neck": "chest", "head": "neck", "collar": "chest", "upper arm": "collar",
    "forearm": "upper arm", "hand": "forearm", "thigh": "hips", "shin": "thigh", "foot": "shin",
}  # fmt: skip
# Our bones of each part (with .L or .R), and how far between parent part and part they turn.
BONES: dict[str, tuple[tuple[str, float], ...]] = {
    "hips": (("root", 1.0), ("pelvis.L", 1.0), ("pelvis.R", 1.0), ("spine05", 1.0)),
    "chest": (("spine04", 0.3), ("spine03", 0.6), ("spine02", 0.85), ("spine01", 1.0)),
    "neck": (("neck01", 0.5), ("neck02", 0.8), ("neck03", 1.0)),
    "head": (("head", 1.0),),
    "collar": (("clavicle", 1.0), ("shoulder01", 1.0)),
    "upper arm": (("upperarm01", 1.0), ("upperarm02", 1.0)),
    "forearm": (("lowerarm01", 1.0), ("lowerarm02", 1.0)),
    "hand": (("wrist", 1.0),),
    "thigh": (("upperleg01", 1.0), ("upperleg02", 1.0)),
    "shin": (("lowerleg01", 1.0), ("lowerleg02", 1.0)),
    "foot": (("foot", 1.0),),
}
# From where to where a part points: heads of two of our bones.
REACH = {
    "chest": ("spine04", "neck01"), "collar": ("clavicle", "upperarm01"),
    "upper arm": ("upperarm01", "lowerarm01"), "forearm": ("lowerarm01", "wrist"),
    "thigh": ("upperleg01", "lowerleg01"), "shin": ("lowerleg01", "foot"),
}  # fmt: skip


def side_of(part: str) -> tuple[str, str]:
    """ "l upper arm" -> ("upper arm", ".L")"""
    if part[:2] in ("l ", "r "):
        return part[2:], f".{part[0].upper()}"
    return part, ""


def parent_of(part: str) -> str | None:
    plain, side = side_of(part)
    parent = PARENT.get(plain)
    if parent is None or not side or parent in ("chest", "hips"):
        return parent
    return f"{part[0]} {parent}"


def rotation(axis: np.ndarray | tuple[float, float, float], angle: float) -> np.ndarray:
    """(3, 3) by `angle` radians around `axis`."""
    unit = np.asarray(axis, np.float64)
    return Rotation.from_rotvec(unit / np.linalg.norm(unit) * angle).as_matrix()


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, 3): the smallest rotation that takes direction a to direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis, cosine = np.cross(a, b), float(a @ b)
    sine = np.linalg.norm(axis)
    if sine < 1e-8:
        if cosine > 0:
            return np.eye(3)
        axis, sine = np.cross(a, [0.57, 0.62, 0.54]), 1.0  # any axis across
    return rotation(axis, float(np.arctan2(sine if cosine > -1 else 0.0, cosine)))


def nearer(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The rotation a share `t` of the way from a to b."""
    step = Rotation.from_matrix(a.T @ b).as_rotvec()
    return a @ Rotation.from_rotvec(step * t).as_matrix()


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Motion of one skeleton: F poses, `rate` a second."""

    name: str
    rate: float
    bones: np.ndarray | None  # (F, B, 3, 3): poses of our own rig
    parts: np.ndarray | None  # (F, 18, 3, 3): how the parts of another turn
    place: np.ndarray  # (F, 3) float32: the hips' way, in leg lengths
    loops: bool = False

    @property
    def frames(self) -> int:
        return len(self.place)

    @property
    def seconds(self) -> float:
        return (self.frames - 1) / self.rate


class Poser:
    """Poses for one rig.  The rest directions of limbs are those of the unshaped body."""

    def __init__(self, library: Library) -> None:
        self.rig: Rig = library.rig
        self.library = library
        heads, _ = self.rig.joints(library.base.vertices)
        self.heads = heads

    def direction(self, part: str) -> np.ndarray | None:
        """(3,) where a part points in rest, or None if that says nothing."""
        plain, side = side_of(part)
        if plain not in REACH:
            return None
        a, b = (self._joint(name, side) for name in REACH[plain])
        return (b - a) / np.linalg.norm(b - a)

    def _joint(self, name: str, side: str) -> np.ndarray:
        number = self.rig.number
        return self.heads[number.get(name + side, number.get(name, -1))].astype(np.float64)

    def spread(self, parts: np.ndarray) -> np.ndarray:
        """(18, 3, 3) turns of parts -> (B, 3, 3): every bone; fingers and face go with theirs."""
        bones = np.full((len(self.rig.names), 3, 3), np.nan)
        number = self.rig.number
        for part in PARTS:
            plain, side = side_of(part)
            parent = parent_of(part)
            mine = parts[PART[part]]
            start = parts[PART[parent]] if parent else mine
            for name, share in BONES[plain]:
                turn = mine if share == 1.0 else nearer(start, mine, share)
                bones[number[name + side if name + side in number else name]] = turn
        for side in "LR":  # half of the shoulder muscle goes with the arm; the forearm twists
            collar, arm = (bones[number[f"{n}.{side}"]] for n in ("clavicle", "upperarm01"))
            bones[number[f"shoulder01.{side}"]] = nearer(collar, arm, 0.35)
            fore, hand = (bones[number[f"{n}.{side}"]] for n in ("lowerarm01", "wrist"))
            bones[number[f"lowerarm02.{side}"]] = nearer(fore, hand, 0.4)
        for i, parent in enumerate(self.rig.parents):
            if np.isnan(bones[i, 0, 0]):
                bones[i] = bones[parent] if parent >= 0 else np.eye(3)
        return bones

    def with_fingers(self, bones: np.ndarray, curl: np.ndarray) -> np.ndarray:
        """Bend fingers: curl (2, 5) radians per joint, left and right, thumb first."""
        bones = bones.copy()
        local = self._local(bones)
        number = self.rig.number
        for s, side in enumerate("LR"):
            knuckles = [self._joint(f"finger{f}-1", f".{side}") for f in (2, 5)]
            across = knuckles[1] - knuckles[0]  # the axis of the four fingers' hinges
            across *= 1 if side == "R" else -1
            for finger in range(1, 6):
                axis = across
                if finger == 1:
                    axis = np.cross(across, self._joint("finger1-2", f".{side}")
                                    - self._joint("finger1-1", f".{side}"))  # fmt: skip
                for joint in range(1, 4):
                    i = number[f"finger{finger}-{joint}.{side}"]
                    local[i] = rotation(axis, curl[s, finger - 1]) @ local[i]
        return self._global(local)

    def _local(self, bones: np.ndarray) -> np.ndarray:
        out = bones.copy()
        for i, parent in enumerate(self.rig.parents):
            if parent >= 0:
                out[i] = bones[parent].T @ bones[i]
        return out

    def _global(self, local: np.ndarray) -> np.ndarray:
        out = local.copy()
        for i, parent in enumerate(self.rig.parents):
            if parent >= 0:
                out[i] = out[parent] @ local[i]
        return out

    def at(self, clip: Clip, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3, 3) pose and (3,) place of the hips at a moment, between frames too."""
        frame = seconds * clip.rate
        last = clip.frames - 1
        frame = frame % max(1, last) if clip.loops else min(max(frame, 0.0), last)
        low = int(frame)
        high, t = min(low + 1, clip.frames - 1), frame - low
        turns = clip.bones if clip.bones is not None else clip.parts
        place = clip.place[low] * (1 - t) + clip.place[high] * t
        if t < 1e-6:
            turn = turns[low]
        else:
            step = Rotation.from_matrix(np.swapaxes(turns[low], 1, 2) @ turns[high]).as_rotvec()
            turn = turns[low] @ Rotation.from_rotvec(step * t).as_matrix()
        return (turn if clip.bones is not None else self.spread(turn)), place

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """Everything the folder has: poses of our rig, captured clips of others."""
        folder, found = self.library.folder, []
        for path in sorted((folder / "mpfb_assets" / "poses").glob("*.bvh")):
            found.append(read_own(path, self.rig))
        for path in [*sorted((folder / "makehuman_bvh/data/bvhs").glob("[01]*_*.bvh")),
                     *sorted((folder / "makehuman_bvh/data/bvhs/cmu").glob("*.bvh"))]:  # fmt: skip
            found.append(read_other(path, self))
        for path in sorted((folder / "deepmimic" / "motions").rglob("*.txt")):
            if not any(word in path.stem for word in ("flip", "cartwheel", "roll")):
                found.append(read_deepmimic(path, self))
        if not found:
            raise DataError(f"{folder}: expected poses and clips below it, found none")
        return tuple(found)


def pose_mesh(
    vertices: np.ndarray, weights: sparse.csr_matrix, rig: Rig, heads: np.ndarray,
    bones: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Linear blend skinning: (V, 3) posed vertices and (B, 3) posed joints."""
    joints = np.empty_like(heads, np.float64)
    for i, parent in enumerate(rig.parents):
        joints[i] = (
            heads[i] if parent < 0 else joints[parent] + bones[parent] @ (heads[i] - heads[parent])
        )
    matrices = np.empty((len(bones), 3, 4), np.float32)
    matrices[:, :, :3] = bones
    matrices[:, :, 3] = joints - np.einsum("bij,bj->bi", bones, heads)
    blended = (weights @ matrices.reshape(len(bones), 12)).reshape(-1, 3, 4)
    posed = np.einsum("vij,vj->vi", blended[:, :, :3], vertices) + blended[:, :, 3]
    return posed.astype(np.float32), joints.astype(np.float32)


# --- readers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Bvh:
    names: list[str]
    parents: list[int]
    offsets: np.ndarray  # (J, 3)
    rotations: np.ndarray  # (F, J, 3, 3) relative to the parent
    roots: np.ndarray  # (F, 3)
    rate: float

    def world(self) -> np.ndarray:
        """(F, J, 3, 3): how each joint has turned in the world."""
        out = self.rotations.copy()
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                out[:, j] = out[:, parent] @ self.rotations[:, j]
        return out

    def rest(self) -> np.ndarray:
        """(J, 3) joints in rest."""
        out = self.offsets.copy()
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                out[j] += out[parent]
        return out


def read_bvh(path: Path) -> Bvh:
    head, _, motion = path.read_text(encoding="utf-8", errors="replace").partition("MOTION")
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    stack: list[int] = []
    ended = False
    for line in head.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] in ("ROOT", "JOINT"):
            parents.append(stack[-1] if stack else -1)
            names.append(words[1])
            offsets.append([0, 0, 0])
            channels.append([])
        elif words[0] == "End":
            ended = True
        elif words[0] == "{":
            stack.append(-2 if ended else len(names) - 1)
            ended = False
        elif words[0] == "}":
            stack.pop()
        elif words[0] == "OFFSET" and stack[-1] != -2:
            offsets[-1] = [float(w) for w in words[1:4]]
        elif words[0] == "CHANNELS":
            channels[-1] = words[2:]
    lines = motion.strip().splitlines()
    rate = 1 / float(lines[1].split(":")[1])
    values = np.array(" ".join(lines[2:]).split(), np.float64)
    width = sum(len(c) for c in channels)
    if width == 0 or len(values) % width:
        raise DataError(f"{path}: expected {width} numbers a frame, found {len(values)} in all")
    values = values.reshape(-1, width)
    rotations = np.tile(np.eye(3), (len(values), len(names), 1, 1))
    roots = np.tile(np.float64(offsets[0]), (len(values), 1))
    column = 0
    for j, order in enumerate(channels):
        turns = [k for k, c in enumerate(order) if c.endswith("rotation")]
        if turns:
            axes = "".join(order[k][0] for k in turns).upper()  # upper case: about turning axes
            angles = values[:, [column + k for k in turns]]
            rotations[:, j] = Rotation.from_euler(axes, angles, degrees=True).as_matrix()
        if j == 0:
            for k, c in enumerate(order):
                if c.endswith("position"):
                    roots[:, "XYZ".index(c[0])] = values[:, column + k]
        column += len(order)
    return Bvh(names, parents, np.float64(offsets), rotations, roots, rate)


UPRIGHT = np.float64([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # files with z up -> y up


def read_own(path: Path, rig: Rig) -> Clip:
    """A pose made for the rig itself: the joints have our bones' names."""
    bvh = read_bvh(path)
    world, rest = bvh.world(), bvh.rest()
    missing = [n for n in ("upperarm01.L", "head", "foot.R") if n not in bvh.names]
    if missing:
        raise DataError(f"{path}: expected joints of the default rig, {missing[0]} is missing")
    tall = rest[bvh.names.index("head")] - rest[bvh.names.index("foot.R")]
    if tall[2] > tall[1]:
        world = UPRIGHT @ world @ UPRIGHT.T
    bones = np.full((len(world), len(rig.names), 3, 3), np.nan)
    for i, (name, parent) in enumerate(zip(rig.names, rig.parents, strict=True)):
        if name in bvh.names:
            bones[:, i] = world[:, bvh.names.index(name)]
        else:
            bones[:, i] = bones[:, parent] if parent >= 0 else np.eye(3)
    return Clip(path.stem, bvh.rate, bones, None, np.zeros((len(world), 3), np.float32))


# What other skeletons call the parts.  The first name that a file has counts.
NAMES: dict[str, tuple[str, ...]] = {
    "hips": ("hip", "Hips"), "chest": ("chest", "Chest", "Spine1", "Spine"),
    "neck": ("neck", "Neck1", "Neck"), "head": ("head", "Head"),
    "collar": ("{l}Collar", "{Left}Collar", "{Left}Shoulder"),
    "upper arm": ("{l}Shldr", "{Left}Arm", "{Left}Shoulder"),
    "forearm": ("{l}ForeArm", "{Left}ForeArm", "{Left}Elbow"),
    "hand": ("{l}Hand", "{Left}Hand", "{Left}Wrist"),
    "thigh": ("{l}Thigh", "{Left}UpLeg", "{Left}Hip"),
    "shin": ("{l}Shin", "{Left}Leg", "{Left}Knee"),
    "foot": ("{l}Foot", "{Left}Foot", "{Left}Ankle"),
}  # fmt: skip
NEXT = {"collar": "upper arm", "upper arm": "forearm", "forearm": "hand", "thigh": "shin",
        "shin": "foot", "chest": "neck"}  # fmt: skip


def read_other(path: Path, poser: Poser) -> Clip:
    """A clip of a skeleton that stands and looks along +z, whatever its arms do in rest."""
    bvh = read_bvh(path)
    world, rest = bvh.world(), bvh.rest()

    def joint(part: str) -> int:
        plain, side = side_of(part)
        short, long = ("l", "Left") if side == ".L" else ("r", "Right")
        for name in NAMES[plain]:
            spelled = name.replace("{l}", short).replace("{Left}", long)
            if spelled in bvh.names:
                return bvh.names.index(spelled)
        raise DataError(f"{path}: no joint found for the {part}; it has {', '.join(bvh.names)}")

    at = {part: joint(part) for part in PARTS}
    parts = np.empty((len(world), len(PARTS), 3, 3))
    for part in PARTS:
        plain, side = side_of(part)
        turn = world[:, at[part]]
        ours = poser.direction(part)
        if plain in NEXT and side and ours is not None:
            theirs = rest[at[f"{part[0]} {NEXT[plain]}"]] - rest[at[part]]
            if np.linalg.norm(theirs) > 1e-6:
                turn = turn @ between(ours, theirs)
        parts[:, PART[part]] = turn
    for side in "lr":  # hands and feet keep the angle to the limb that ours have in rest
        for limb, end in (("forearm", "hand"), ("shin", "foot")):
            fix = world[:, at[f"{side} {limb}"]].swapaxes(1, 2) @ world[:, at[f"{side} {end}"]]
            mine = parts[:, PART[f"{side} {limb}"]]
            parts[:, PART[f"{side} {end}"]] = mine @ fix if limb == "shin" else mine
    leg = np.linalg.norm(rest[at["l shin"]] - rest[at["l thigh"]])
    leg += np.linalg.norm(rest[at["l foot"]] - rest[at["l shin"]])
    place = np.float32((bvh.roots - bvh.roots[0]) / leg)
    return Clip(path.stem, bvh.rate, None, parts, place)


DEEPMIMIC = np.float64([[0, 0, -1], [0, 1, 0], [1, 0, 0]])  # it looks along +x, right is +z
DEEPMIMIC_LEG_METRES = 0.42 + 0.41


def read_deepmimic(path: Path, poser: Poser) -> Clip:
    """Peng et al. 2018: quaternions (w first) of a figure with hanging arms; knees and elbows
    have one angle."""
    table = json.loads(path.read_text())
    values = np.float64(table["Frames"])
    if values.ndim != 2 or values.shape[1] != 44:
        raise DataError(f"{path}: expected 44 numbers a frame, found {values.shape}")
    rate = 1 / max(1e-3, float(np.median(values[:-1, 0] if len(values) > 1 else values[:, 0])))

    def quaternion(column: int) -> np.ndarray:
        return Rotation.from_quat(values[:, [column + k for k in (1, 2, 3, 0)]]).as_matrix()

    def hinge(column: int) -> np.ndarray:
        return Rotation.from_euler("z", values[:, [column]]).as_matrix()

    root, chest, neck = quaternion(4), quaternion(8), quaternion(12)
    world = {"hips": root, "chest": root @ chest}
    world["neck"] = world["chest"]
    world["head"] = world["chest"] @ neck
    for side, first in (("r", 16), ("l", 30)):
        thigh = root @ quaternion(first)
        shin = thigh @ hinge(first + 4)
        arm = world["chest"] @ quaternion(first + 9)
        fore = arm @ hinge(first + 13)
        world |= {
            f"{side} thigh": thigh, f"{side} shin": shin,
            f"{side} foot": shin @ quaternion(first + 5), f"{side} collar": world["chest"],
            f"{side} upper arm": arm, f"{side} forearm": fore, f"{side} hand": fore,
        }  # fmt: skip
    parts = np.empty((len(values), len(PARTS), 3, 3))
    down = np.float64([0, -1, 0])
    for part in PARTS:
        turn = DEEPMIMIC @ world[part] @ DEEPMIMIC.T
        plain, side = side_of(part)
        limb = {"hand": "forearm"}.get(plain, plain)
        if side and limb in ("upper arm", "forearm", "thigh", "shin"):
            ours = poser.direction(f"{part[0]} {limb}")
            turn = turn @ between(ours, down)
        parts[:, PART[part]] = turn
    place = np.float32(values[:, 1:4] @ DEEPMIMIC.T / DEEPMIMIC_LEG_METRES)
    return Clip(path.stem.removeprefix("humanoid3d_"), rate, None, parts, place - place[0])
