"""The CC0 MakeHuman files, read: base mesh, morph targets, rig, and everything worn on the body.

Space is as the files have it: decimetres, y up, the person looks along +z, their left hand is at
+x.  Vertices of a mesh are welded; texture coordinates have an index of their own per corner.
Nothing here draws or moves anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy import sparse

from matting.synthesis.sources import DataError

UNIT_METRES = 0.1  # of one unit of the files


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """V vertices, U texture coordinates, T triangles."""

    vertices: np.ndarray  # (V, 3) float32
    uv: np.ndarray  # (U, 2) float32, v up
    triangles: np.ndarray  # (T, 3) int32, into vertices
    uv_triangles: np.ndarray  # (T, 3) int32, into uv
    groups: dict[str, np.ndarray]  # name of a group -> the indices of its triangles


@dataclass(frozen=True, slots=True, eq=False)
class Worn:
    """A mesh that follows the base mesh: clothes, shoes, hair, eyes, brows, lashes, teeth."""

    name: str
    mesh: Mesh
    corners: np.ndarray  # (V, 3) int32: the base vertices each vertex hangs on
    shares: np.ndarray  # (V, 3) float32: how much on each
    offsets: np.ndarray  # (V, 3) float32: added to that, before scaling
    scales: tuple[tuple[int, int, float] | None, ...]  # x, y, z: two base vertices, their distance
    hides: np.ndarray  # base vertices that it covers
    texture: Path | None  # None: the material names a file that is not there
    occlusion: Path | None

    def fit(self, base: np.ndarray) -> np.ndarray:
        """Where its vertices lie on a body whose base mesh is (19158, 3) `base`."""
        scale = [
            1.0 if s is None else abs(float(base[s[0], axis] - base[s[1], axis])) / s[2]
            for axis, s in enumerate(self.scales)
        ]
        on_body = np.einsum("vc,vcd->vd", self.shares, base[self.corners])
        return (on_body + self.offsets * np.float32(scale)).astype(np.float32)

    def weights(self, base: sparse.csr_matrix) -> sparse.csr_matrix:
        """Skinning weights: those of the base vertices it hangs on."""
        rows = np.repeat(np.arange(len(self.corners)), 3)
        bind = sparse.csr_matrix(
            (self.shares.ravel(), (rows, self.corners.ravel())),
            shape=(len(self.corners), base.shape[0]),
        )
        return normalised(bind @ base)


@dataclass(frozen=True, eq=False)
class Rig:
    """B bones, parents before children."""

    names: tuple[str, ...]
    parents: np.ndarray  # (B,) int32, -1 for the root
    heads: tuple[np.ndarray, ...]  # base vertices whose mean is the joint
    tails: tuple[np.ndarray, ...]
    weights: sparse.csr_matrix  # (19158, B) float32, rows sum to 1

    @cached_property
    def number(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def joints(self, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, 3) heads and (B, 3) tails of the bones in a body of this shape."""
        heads, tails = (
            np.array([base[vertices].mean(0) for vertices in ends], np.float32)
            for ends in (self.heads, self.tails)
        )
        return heads, tails


def normalised(weights: sparse.spmatrix, most: float = 0.004) -> sparse.csr_matrix:
    """Weights too small to matter dropped, rows summing to 1."""
    weights = sparse.csr_matrix(weights, dtype=np.float32)
    weights.data[weights.data < most] = 0
    weights.eliminate_zeros()
    total = np.asarray(weights.sum(1)).ravel()
    total[total == 0] = 1
    return sparse.csr_matrix(sparse.diags((1 / total).astype(np.float32)) @ weights)


def read_obj(path: Path) -> Mesh:
    """A Wavefront mesh; quads are split into triangles."""
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    corners: list[tuple[int, int, int]] = []
    uv_corners: list[tuple[int, int, int]] = []
    groups: dict[str, list[int]] = {}
    current = groups.setdefault("", [])
    for line in _text(path).splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == "vt":
            uv.append([float(w) for w in words[1:3]])
        elif words[0] == "g":
            current = groups.setdefault(words[1] if len(words) > 1 else "", [])
        elif words[0] == "f":
            parts = [w.split("/") for w in words[1:]]
            at = [int(p[0]) - 1 for p in parts]
            tex = [int(p[1]) - 1 if len(p) > 1 and p[1] else 0 for p in parts]
            for k in range(1, len(at) - 1):
                current.append(len(corners))
                corners.append((at[0], at[k], at[k + 1]))
                uv_corners.append((tex[0], tex[k], tex[k + 1]))
    if not vertices or not corners:
        raise DataError(f"{path}: expected a mesh, found {len(vertices)} vertices, no faces")
    return Mesh(
        np.float32(vertices), np.float32(uv or [[0, 0]]), np.int32(corners),
        np.int32(uv_corners), {k: np.array(v, np.int32) for k, v in groups.items() if v},
    )  # fmt: skip


def read_target(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A morph target: (K,) base vertices and their (K, 3) offsets."""
    text = _text(path)
    last = text.rfind("#")  # comments stand at the head
    body = text[text.index("\n", last) :] if last >= 0 else text
    table = np.array(body.split(), np.float64).reshape(-1, 4)
    return table[:, 0].astype(np.int32), table[:, 1:].astype(np.float32)


def read_worn(path: Path) -> Worn:
    """An .mhclo file with its mesh and the textures of its material."""
    corners: list[list[int]] = []
    shares: list[list[float]] = []
    offsets: list[list[float]] = []
    hides: list[int] = []
    scales: list[tuple[int, int, float] | None] = [None, None, None]
    name, mesh, material, part = path.stem, None, None, ""
    for line in _text(path).splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[0]
        if key in ("verts", "delete_verts"):
            part = key
        elif key == "obj_file":
            mesh = read_obj(path.parent / words[1])
        elif key == "material":
            material = (path.parent / words[1]).resolve()
        elif key in ("x_scale", "y_scale", "z_scale"):
            scales["xyz".index(key[0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif part == "verts" and _number(key):
            if len(words) == 1:
                corners.append([int(key)] * 3)
                shares.append([1.0, 0.0, 0.0])
                offsets.append([0.0, 0.0, 0.0])
            else:
                corners.append([int(w) for w in words[:3]])
                shares.append([float(w) for w in words[3:6]])
                offsets.append([float(w) for w in words[6:9]])
        elif part == "delete_verts" and _number(key):
            hides += _ranges(words)
    if mesh is None or len(corners) != len(mesh.vertices):
        raise DataError(f"{path}: expected one binding per vertex of its mesh")
    textures = read_material(material) if material is not None and material.exists() else {}
    return Worn(
        name, mesh, np.int32(corners), np.float32(shares), np.float32(offsets), tuple(scales),
        np.int32(hides), textures.get("diffuseTexture"), textures.get("aomapTexture"),
    )  # fmt: skip


def read_material(path: Path) -> dict[str, Path]:
    """The textures an .mhmat file names, where they are there."""
    found = {}
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) == 2 and words[0].endswith("Texture"):
            texture = path.parent / words[1]
            if texture.exists():
                found[words[0]] = texture
    return found


def read_rig(skeleton: Path, weights: Path, vertices: int) -> Rig:
    table = json.loads(_text(skeleton))
    bones, joints = table["bones"], table["joints"]
    order: list[str] = []

    def add(name: str) -> None:
        if name not in order:
            if bones[name]["parent"]:
                add(bones[name]["parent"])
            order.append(name)

    for name in bones:
        add(name)
    number = {name: i for i, name in enumerate(order)}
    rows, columns, values = [], [], []
    for name, pairs in json.loads(_text(weights))["weights"].items():
        for vertex, value in pairs:
            rows.append(vertex)
            columns.append(number[name])
            values.append(value)
    table_of_weights = sparse.csr_matrix(
        (np.float32(values), (rows, columns)), shape=(vertices, len(order))
    )
    bare = np.asarray(table_of_weights.sum(1)).ravel() == 0
    if bare.any():  # a vertex without weights goes with the root
        table_of_weights = table_of_weights + sparse.csr_matrix(
            (np.ones(bare.sum(), np.float32), (np.nonzero(bare)[0], np.zeros(bare.sum(), int))),
            shape=table_of_weights.shape,
        )
    return Rig(
        tuple(order),
        np.int32([number[bones[n]["parent"]] if bones[n]["parent"] else -1 for n in order]),
        tuple(np.array(joints[bones[n]["head"]], np.int32) for n in order),
        tuple(np.array(joints[bones[n]["tail"]], np.int32) for n in order),
        normalised(table_of_weights),
    )


class Library:
    """The unpacked humans3d folder.  Everything is read when first asked for, and kept.

    Raises DataError naming the first path that is not as documented.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.makehuman = folder / "makehuman"
        if not (self.makehuman / "3dobjs" / "base.obj").exists():
            raise DataError(
                f"{self.makehuman / '3dobjs' / 'base.obj'}: not found; unpack humans3d.tar.xz "
                f"and name the folder that holds makehuman/"
            )
        self._targets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._worn: dict[str, Worn] = {}

    @cached_property
    def base(self) -> Mesh:
        return read_obj(self.makehuman / "3dobjs" / "base.obj")

    @cached_property
    def rig(self) -> Rig:
        rigs = self.makehuman / "rigs"
        return read_rig(
            rigs / "default.mhskel", rigs / "default_weights.mhw", len(self.base.vertices)
        )

    def target(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A morph by its path below targets/, without the ending."""
        if name not in self._targets:
            self._targets[name] = read_target(self.makehuman / "targets" / f"{name}.target")
        return self._targets[name]

    def has_target(self, name: str) -> bool:
        return (self.makehuman / "targets" / f"{name}.target").exists()

    def worn(self, kind: str, name: str) -> Worn:
        """kind: clothes, hair, eyebrows, eyelashes, eyes, teeth; name: of the folder."""
        key = f"{kind}/{name}"
        if key not in self._worn:
            found = sorted((self.makehuman / kind / name).glob("*.mhclo"))
            if not found:
                raise DataError(f"{self.makehuman / kind / name}: expected an .mhclo file")
            self._worn[key] = read_worn(found[0])
        return self._worn[key]

    @cache  # noqa: B019 (one library lives as long as the program)
    def names(self, kind: str) -> tuple[str, ...]:
        """What there is of a kind, by name."""
        return tuple(sorted(p.parent.name for p in (self.makehuman / kind).glob("*/*.mhclo")))

    @cached_property
    def skins(self) -> dict[str, Path]:
        """Skin textures by name, without the drawn one and the one wearing a suit."""
        found = sorted((self.makehuman / "skins").glob("*/*.png"))
        return {p.stem: p for p in found if "suit" not in p.stem}

    @lru_cache(maxsize=96)  # noqa: B019
    def texture(self, path: Path) -> np.ndarray:
        """(H, W, 4) uint8 RGBA, opaque where the file has no alpha."""
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise DataError(f"{path}: expected a texture, found none that can be read")
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, 2)
        if image.shape[2] == 3:
            image = np.concatenate([image, np.full_like(image[..., :1], 255)], 2)
        return np.ascontiguousarray(image[..., [2, 1, 0, 3]])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise DataError(f"{path}: not found") from None


def _number(word: str) -> bool:
    return word.lstrip("-").isdigit()


def _ranges(words: list[str]) -> list[int]:
    """'3 5 - 8 10' -> [3, 5, 6, 7, 8, 10]"""
    found: list[int] = []
    span = False
    for word in words:
        if word == "-":
            span = True
        elif span:
            found += range(found[-1] + 1, int(word) + 1)
            span = False
        else:
            found.append(int(word))
    return found
