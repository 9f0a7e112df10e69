"""A folder laid out as humans3d, with a person made of boxes: one box a bone.

Small enough for tests, and whole: every reader and the renderer run on it unchanged.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

# Joints of the left side and the middle, decimetres; the person stands with arms half lowered.
MIDDLE = {
    "root": (0, 0, 0), "spine05": (0, 0.5, 0), "spine04": (0, 1, 0), "spine03": (0, 2, 0),
    "spine02": (0, 3, 0), "spine01": (0, 4, 0), "neck01": (0, 5.5, 0), "neck02": (0, 5.8, 0),
    "neck03": (0, 6.1, 0), "head": (0, 6.4, 0),
}  # fmt: skip
LEFT = {
    "pelvis": (0.3, 0.3, 0), "upperleg01": (1, 0, 0), "upperleg02": (1, -1.5, 0),
    "lowerleg01": (1, -4, 0.1), "lowerleg02": (1, -6, 0), "foot": (1, -7.6, 0),
    "clavicle": (0.3, 5, 0), "shoulder01": (1, 5.2, 0), "upperarm01": (1.6, 5.2, 0),
    "upperarm02": (2.2, 4.4, 0), "lowerarm01": (3, 3.4, 0), "lowerarm02": (3.6, 2.9, 0.4),
    "wrist": (4.2, 2.4, 0.8),
}  # fmt: skip
CHAINS = (
    ("pelvis", "upperleg01", "upperleg02", "lowerleg01", "lowerleg02", "foot"),
    ("clavicle", "shoulder01", "upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist"),
)
TIPS = {"foot": (0, 0, 1), "wrist": (0.2, -0.2, 0.2), "head": (0, 1.6, 0)}


def bones() -> dict[str, tuple[np.ndarray, np.ndarray, str | None]]:
    """name -> head, tail, parent"""
    found: dict = {}
    names = list(MIDDLE)
    for name, after in [*pairwise(names), (names[-1], None)]:
        head = np.float64(MIDDLE[name])
        tail = np.float64(MIDDLE[after]) if after else head + TIPS["head"]
        parent = names[names.index(name) - 1] if name != "root" else None
        found[name] = (head, tail, parent)
    for side, sign in (("L", 1), ("R", -1)):
        mirror = np.float64([sign, 1, 1])
        for chain, root in zip(CHAINS, ("root", "spine01"), strict=True):
            for name, after in [*pairwise(chain), (chain[-1], None)]:
                head = np.float64(LEFT[name]) * mirror
                tail = np.float64(LEFT[after]) if after else LEFT[name] + np.float64(TIPS[name])
                parent = root if name == chain[0] else chain[chain.index(name) - 1] + "." + side
                found[f"{name}.{side}"] = (head, tail * mirror, parent)
        wrist = found[f"wrist.{side}"][1]
        for finger in range(1, 6):
            parent = f"wrist.{side}"
            for joint in range(1, 4):
                head = wrist + np.float64([0, -0.1 * joint, 0.1 * finger])
                found[f"finger{finger}-{joint}.{side}"] = (head, head - [0, 0.1, 0], parent)
                parent = f"finger{finger}-{joint}.{side}"
    return found


def box(a: np.ndarray, b: np.ndarray, thick: float) -> np.ndarray:
    """(8, 3) corners of a beam from a to b: the first four around a."""
    along = (b - a) / np.linalg.norm(b - a)
    side = np.cross(along, [0.3, 0.2, 0.93])
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    ring = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    return np.float64([end + thick * (u * side + v * other) for end in (a, b) for u, v in ring])


FACES = ((3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))


def write_obj(path: Path, vertices: np.ndarray, faces: list[tuple[int, ...]], group: str) -> None:
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    lines += ["vt 0.1 0.1", "vt 0.9 0.1", "vt 0.9 0.9", "vt 0.1 0.9", f"g {group}"]
    lines += ["f " + " ".join(f"{v + 1}/{k + 1}" for k, v in enumerate(face)) for face in faces]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# made for tests\n" + "\n".join(lines) + "\n")


def worn(folder: Path, name: str, corners: list[int], texture: tuple[int, ...] | None) -> None:
    """One quad that hangs on four base vertices, half a decimetre in front of them."""
    at = folder / name
    write_obj(at / f"{name}.obj", np.eye(4, 3), [(0, 1, 2, 3)], name)
    lines = [f"name {name}", f"obj_file {name}.obj", f"material {name}.mhmat", "verts 0"]
    lines += [f"{v} {v} {v} 1.0 0.0 0.0 0.0 0.0 0.5" for v in corners]
    (at / f"{name}.mhclo").write_text("\n".join(lines) + "\n")
    if texture is not None:
        cv2.imwrite(str(at / f"{name}.png"), np.full((8, 8, 4), texture, np.uint8))
        (at / f"{name}.mhmat").write_text(f"diffuseTexture {name}.png\n")
    else:
        (at / f"{name}.mhmat").write_text("diffuseTexture missing.png\n")


def build(folder: Path) -> Path:
    made = folder / "makehuman"
    vertices, faces, joints, table, weights = [], [], {}, {}, {}
    numbers = {}
    for name, (head, tail, parent) in bones().items():
        start = 8 * len(numbers)
        numbers[name] = start
        thick = 0.9 if name.startswith("spine") else 0.35 if "finger" not in name else 0.04
        vertices.append(box(head, tail, thick))
        faces += [tuple(start + v for v in face) for face in FACES]
        joints[f"{name}____head"] = list(range(start, start + 4))
        joints[f"{name}____tail"] = list(range(start + 4, start + 8))
        table[name] = {"head": f"{name}____head", "tail": f"{name}____tail", "parent": parent}
        weights[name] = [[start + k, 1.0] for k in range(8)]
    write_obj(made / "3dobjs" / "base.obj", np.concatenate(vertices), faces, "body")
    (made / "rigs").mkdir()
    rig = {"bones": table, "joints": joints}
    (made / "rigs" / "default.mhskel").write_text(json.dumps(rig))
    (made / "rigs" / "default_weights.mhw").write_text(json.dumps({"weights": weights}))

    def corners(bone: str) -> list[int]:
        return [numbers[bone] + k for k in (0, 3, 7, 4)]

    solid, half = (40, 90, 160, 255), (60, 60, 60, 128)
    for name in ("male_suit", "female_suit"):
        worn(made / "clothes", name, corners("spine03"), solid)
    worn(made / "clothes", "shoes01", corners("foot.L"), solid)
    worn(made / "hair", "short01", corners("head"), half)
    worn(made / "hair", "bob01", corners("head"), None)
    worn(made / "hair", "long01", corners("head"), half)
    worn(made / "eyebrows", "eyebrow001", corners("head"), half)
    worn(made / "eyelashes", "eyelashes01", corners("head"), half)
    worn(made / "eyes", "low-poly", corners("head"), solid)
    worn(made / "teeth", "teeth_base", corners("head"), solid)
    (made / "eyes" / "materials").mkdir()
    cv2.imwrite(str(made / "eyes/materials/brown_eye.png"), np.full((8, 8, 3), 90, np.uint8))
    skin = made / "skins" / "young"
    skin.mkdir(parents=True)
    picture = np.full((8, 8, 3), (120, 150, 200), np.uint8)
    cv2.imwrite(str(skin / "young_lightskinned_male_diffuse.png"), picture)
    motions = folder / "deepmimic" / "motions"
    motions.mkdir(parents=True)
    (motions / "humanoid3d_stand.txt").write_text(json.dumps({"Frames": still_frames()}))
    return folder


def still_frames(count: int = 20) -> list[list[float]]:
    """A figure that stands with hanging arms and walks half a metre along +x, its forward."""
    one = [1.0, 0.0, 0.0, 0.0]
    limbs = [*one, 0.0, *one, *one, 0.0]
    return [
        [0.1, 0.025 * k, 0.85, 0.0, *one, *one, *one, *limbs, *limbs] for k in range(count)
    ]  # fmt: skip
