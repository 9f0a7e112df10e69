"""A random person: shape, skin, clothes and hair, as one mesh ready to be posed.

The shape is a sum of morph targets weighted the MakeHuman way: each target's weight is the product
of how far the body has the traits in its name.  Units are the files' (decimetres).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from matting.synthesis.humans.assets import Library, Worn, normalised
from matting.synthesis.humans.raster import vertex_normals

CHILD_AGE, YOUNG_AGE = 0.1875, 0.5  # of the age scale: 1 year at 0, 25 at 0.5, 90 at 1
OPAQUE, BLENDED = 0, 1
SKIN, CLOTH, HAIR, EYE, LEATHER = range(5)  # how a surface answers light
GARMENTS = ("clothes", "shoes")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a body is like.  Scales run from 0 to 1, as MakeHuman's sliders."""

    age: float  # 0: one year, 0.1875: ten, 0.5: twenty-five, 1: ninety
    male: float  # 0: female, 1: male
    muscle: float
    weight: float
    height: float
    proportions: float
    african: float  # the three shares sum to 1
    asian: float
    caucasian: float
    details: tuple[tuple[str, float], ...] = ()  # further targets by name, with their weights

    @property
    def years(self) -> float:
        if self.age < YOUNG_AGE:
            return 1 + self.age / YOUNG_AGE * 24
        return 25 + (self.age - YOUNG_AGE) / (1 - YOUNG_AGE) * 65

    @property
    def child(self) -> bool:
        return self.age < 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """One texture and how it takes light."""

    texture: np.ndarray  # (H, W, 4) uint8 RGBA
    kind: int  # SKIN, CLOTH, HAIR, EYE or LEATHER
    blended: bool  # drawn over what is behind, by its alpha; otherwise solid
    two_sided: bool


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Everything worn and the body itself, in rest pose: V vertices, T triangles, M materials."""

    traits: Traits
    base: np.ndarray  # (19158, 3) float32: the shaped base mesh, for the joints
    vertices: np.ndarray  # (V, 3) float32
    weights: sparse.csr_matrix  # (V, B)
    triangles: np.ndarray  # (T, 3) int32
    uv: np.ndarray  # (T, 3, 2) float32, v down, 0 to 1
    material: np.ndarray  # (T,) int32, into materials
    materials: tuple[Material, ...]
    feet: np.ndarray  # (K,) int32: vertices that may touch the ground


def random_traits(rng: np.random.Generator, library: Library) -> Traits:
    """Adults most of the time, one in four a child, one in seven old."""
    kind = rng.random()
    if kind < 0.25:
        age = rng.uniform(0.07, 0.3)
    elif kind < 0.85:
        age = rng.uniform(0.34, 0.68)
    else:
        age = rng.uniform(0.68, 1.0)
    male = float(rng.random() < 0.5)
    male = float(np.clip(male + rng.normal(0, 0.08), 0, 1))
    race = rng.dirichlet([0.45, 0.45, 0.45])
    details: list[tuple[str, float]] = []
    for pair in ("head/head-fat", "head/head-scale-horiz", "head/head-scale-vert",
                 "torso/torso-scale-horiz", "torso/torso-vshape", "measure/measure-hips-circ",
                 "measure/measure-waist-circ", "measure/measure-shoulder-dist",
                 "measure/measure-neck-circ", "measure/measure-upperleg-height",
                 "measure/measure-upperarm-circ", "measure/measure-thigh-circ"):  # fmt: skip
        amount = rng.normal(0, 0.3)
        name = f"{pair}-{'incr' if amount > 0 else 'decr'}"
        if rng.random() < 0.6 and library.has_target(name):
            details.append((name, float(min(0.8, abs(amount)))))
    shape = rng.choice(["oval", "round", "rectangular", "square", "triangular", "diamond"])
    details.append((f"head/head-{shape}", float(rng.uniform(0, 0.7))))
    units = "expression/units/caucasian/"
    face = rng.random()
    if face < 0.35:
        details.append((units + "mouth-corner-puller", float(rng.uniform(0.2, 0.9))))
    elif face < 0.5:
        details.append((units + "mouth-open", float(rng.uniform(0.1, 0.6))))
    for unit in ("eye-left-slit", "eyebrows-left-up", "eyebrows-left-down"):
        if rng.random() < 0.25:
            amount = float(rng.uniform(0.1, 0.6))
            details += [(units + unit, amount), (units + unit.replace("left", "right"), amount)]
    if rng.random() < 0.06:
        details += [(units + f"eye-{side}-closure", 1.0) for side in ("left", "right")]
    return Traits(
        age=float(age), male=male, muscle=float(rng.beta(2.2, 2)), weight=float(rng.beta(2, 2)),
        height=float(rng.beta(2.5, 2.5)), proportions=float(rng.uniform(0.35, 0.95)),
        african=float(race[0]), asian=float(race[1]), caucasian=float(race[2]),
        details=tuple(d for d in details if library.has_target(d[0])),
    )  # fmt: skip


def _ends(value: float, low: str, high: str, middle: str = "") -> dict[str, float]:
    """How far a scale's value is at its named ends (and its middle, where that has a name)."""
    below, above = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
    parts = {low: below, high: above}
    if middle:
        parts[middle] = 1 - below - above
    return {name: share for name, share in parts.items() if share > 0}


def target_weights(traits: Traits) -> dict[str, float]:
    """Morph targets by name with the weight each has in such a body."""
    age = traits.age
    if age < CHILD_AGE:
        ages = {"baby": 1 - age / CHILD_AGE, "child": age / CHILD_AGE}
    elif age < YOUNG_AGE:
        grown = (age - CHILD_AGE) / (YOUNG_AGE - CHILD_AGE)
        ages = {"child": 1 - grown, "young": grown}
    else:
        old = (age - YOUNG_AGE) / (1 - YOUNG_AGE)
        ages = {"young": 1 - old, "old": old}
    sexes = {"male": traits.male, "female": 1 - traits.male}
    races = {n: getattr(traits, n) for n in ("african", "asian", "caucasian")}
    muscles = _ends(traits.muscle, "minmuscle", "maxmuscle", "averagemuscle")
    weights = _ends(traits.weight, "minweight", "maxweight", "averageweight")
    heights = _ends(traits.height, "minheight", "maxheight")
    proportions = _ends(traits.proportions, "uncommonproportions", "idealproportions")
    found: dict[str, float] = {}

    def add(pattern: str, *scales: dict[str, float]) -> None:
        for parts in product(*(scale.items() for scale in scales)):
            weight = float(np.prod([share for _, share in parts]))
            if weight > 1e-4:
                name = "macrodetails/" + pattern.format(*(n for n, _ in parts))
                found[name] = found.get(name, 0.0) + weight

    add("{}-{}-{}", races, sexes, ages)
    add("universal-{}-{}-{}-{}", sexes, ages, muscles, weights)
    add("height/{}-{}-{}-{}-{}", sexes, ages, muscles, weights, heights)
    add("proportions/{}-{}-{}-{}-{}", sexes, ages, muscles, weights, proportions)
    for name, weight in traits.details:
        found[name] = found.get(name, 0.0) + weight
    return found


def shape(library: Library, traits: Traits) -> np.ndarray:
    """(19158, 3) float32: the base mesh of such a body."""
    body = library.base.vertices.copy()
    for name, weight in target_weights(traits).items():
        if library.has_target(name):
            vertices, offsets = library.target(name)
            body[vertices] += offsets * np.float32(weight)
    return body


def recolour(
    texture: np.ndarray, colour: np.ndarray, amount: float, contrast: float = 1.0
) -> np.ndarray:
    """The texture's light and dark in another colour: (H, W, 4) uint8, `colour` RGB 0 to 1.

    `amount` 0 keeps the texture, 1 keeps only its brightness pattern.
    """
    gray = cv2.cvtColor(texture[..., :3], cv2.COLOR_RGB2GRAY)
    solid = gray[::4, ::4][texture[::4, ::4, 3] > 128]
    mean = float(solid.mean()) if solid.size else 127.0
    levels = (np.arange(256, dtype=np.float32) / max(mean, 5.0)) ** contrast
    table = np.clip(levels[:, None] * np.float32(colour) * 255 + 0.5, 0, 255).astype(np.uint8)
    dyed = cv2.LUT(cv2.merge([gray] * 3), table.reshape(1, 256, 3))
    mixed = cv2.addWeighted(dyed, amount, np.ascontiguousarray(texture[..., :3]), 1 - amount, 0)
    return np.dstack([mixed, texture[..., 3]])


def _hsv(h: float, s: float, v: float) -> np.ndarray:
    pixel = np.float32([[[h * 360 % 360, s, v]]])
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]


def fabric_colour(rng: np.random.Generator) -> np.ndarray:
    """Colours people wear: much black, white, grey, blue and beige, and some of every other."""
    kind = rng.random()
    if kind < 0.16:
        return _hsv(rng.random(), rng.uniform(0, 0.2), rng.uniform(0.04, 0.16))
    if kind < 0.32:
        return _hsv(rng.random(), rng.uniform(0, 0.08), rng.uniform(0.7, 0.95))
    if kind < 0.45:
        return _hsv(rng.random(), rng.uniform(0, 0.1), rng.uniform(0.2, 0.65))
    if kind < 0.62:
        return _hsv(rng.uniform(0.56, 0.66), rng.uniform(0.3, 0.8), rng.uniform(0.12, 0.6))
    if kind < 0.74:
        return _hsv(rng.uniform(0.05, 0.12), rng.uniform(0.15, 0.55), rng.uniform(0.25, 0.8))
    return _hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.85))


def pattern(rng: np.random.Generator, side: int = 1024) -> np.ndarray:
    """(side, side, 3) float32 factor of a fabric's colour: plain, stripes, checks, dots, blots."""
    ramp = np.linspace(0, 1, side, endpoint=False, dtype=np.float32)
    x, y = np.meshgrid(ramp, ramp)
    kind = rng.random()
    other = fabric_colour(rng) + 0.15
    if kind < 0.45:
        mask = np.zeros((side, side), np.float32)
    elif kind < 0.65:
        along = (y, x, x + y)[rng.integers(3)]
        duty = rng.uniform(0.15, 0.6)
        mask = np.float32((along * rng.integers(12, 60)) % 1 < duty)
    elif kind < 0.8:
        n, duty = rng.integers(10, 40), rng.uniform(0.2, 0.5)
        mask = (np.float32((x * n) % 1 < duty) + np.float32((y * n) % 1 < duty)) / 2
    elif kind < 0.88:
        n = rng.integers(14, 50)
        mask = np.float32(((x * n) % 1 - 0.5) ** 2 + ((y * n) % 1 - 0.5) ** 2 < 0.07)
    else:
        small = rng.normal(0, 1, (rng.integers(8, 40),) * 2).astype(np.float32)
        big = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
        mask = np.clip(big * rng.uniform(1, 6) + 0.5, 0, 1)
    factor = 1 + mask[..., None] * (np.float32(other) * 2 - 1) * np.float32(rng.uniform(0.3, 0.9))
    grain = cv2.resize(rng.normal(1, 0.06, (256, 256)).astype(np.float32), (side, side))
    return np.clip(factor * grain[..., None], 0.05, 2.5)


def clothes_texture(worn: Worn, library: Library, rng: np.random.Generator) -> np.ndarray:
    """Its own texture dyed, or, where the files lack one, a fabric of ours with its shading."""
    if worn.texture is None:
        side = 1024
        shade = np.ones((side, side, 1), np.float32)
        if worn.occlusion is not None:
            shade = library.texture(worn.occlusion)[..., :1].astype(np.float32) / 255
            side = shade.shape[0]
        rgb = pattern(rng, side) * fabric_colour(rng) * shade
        alpha = np.full((side, side, 1), 255, np.uint8)
        return np.concatenate([np.clip(rgb * 255, 0, 255).astype(np.uint8), alpha], 2)
    texture = library.texture(worn.texture)
    if rng.random() < 0.75:
        texture = recolour(texture, fabric_colour(rng), rng.uniform(0.5, 1.0), rng.uniform(0.6, 1))
    if rng.random() < 0.35:
        factor = pattern(rng, texture.shape[0])
        texture = texture.copy()
        texture[..., :3] = np.clip(texture[..., :3] * factor, 0, 255)
    if worn.occlusion is not None:
        shade = library.texture(worn.occlusion)
        if shade.shape[:2] == texture.shape[:2]:
            factor = shade[..., :3].astype(np.float32) / 255
            texture = texture.copy()
            texture[..., :3] = texture[..., :3] * (0.3 + 0.7 * factor)
    return texture


def hair_colour(rng: np.random.Generator, traits: Traits) -> np.ndarray:
    """RGB 0 to 1: dark more often than fair; grey with the years; now and then dyed."""
    if traits.years > 50 and rng.random() < (traits.years - 45) / 35:
        return _hsv(0.1, rng.uniform(0, 0.12), rng.uniform(0.4, 0.66))
    if rng.random() < 0.05:
        return _hsv(rng.random(), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.7))
    if rng.random() < 0.3 + 0.7 * (1 - traits.caucasian):
        return _hsv(rng.uniform(0.03, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.05, 0.16))
    kind = rng.random()
    if kind < 0.5:
        return _hsv(rng.uniform(0.05, 0.09), rng.uniform(0.45, 0.65), rng.uniform(0.15, 0.4))
    if kind < 0.88:
        return _hsv(rng.uniform(0.09, 0.13), rng.uniform(0.3, 0.55), rng.uniform(0.4, 0.64))
    return _hsv(rng.uniform(0.03, 0.06), rng.uniform(0.6, 0.8), rng.uniform(0.3, 0.55))


def skin_texture(library: Library, traits: Traits, rng: np.random.Generator) -> np.ndarray:
    """A texture near in sex, age and tone, and the tone then moved a little further."""
    sex = "female" if traits.male < 0.5 else "male"
    dark = traits.african > max(traits.asian, traits.caucasian)
    old = "old" if traits.years > 62 else "middleage" if traits.years > 42 else "young"

    def distance(name: str) -> float:
        words = name.split("_")
        return (
            2.0 * (sex not in words) + 1.5 * (("darkskinned" in words) != dark)
            + 1.0 * (words[0] != old) + (4.0 if traits.child and words[0] != "young" else 0)
            + rng.uniform(0, 1.2)
        )  # fmt: skip

    name = min(sorted(library.skins), key=distance)
    texture = library.texture(library.skins[name])
    rgb = np.ascontiguousarray(texture[..., :3])
    levels = (np.arange(256, dtype=np.float32) / 255) ** 2.2
    mean = np.array([levels[rgb[::4, ::4, k]].mean() for k in range(3)])
    # Melanin takes blue before green before red; its amount runs from pale to very dark.
    tone = traits.african * rng.uniform(0.75, 1.5) + traits.asian * rng.uniform(0.1, 0.4)
    tone += traits.caucasian * rng.uniform(0.0, 0.25)
    wanted = np.float32([0.56, 0.36, 0.26]) * np.exp(-tone * np.float32([1.35, 1.65, 1.85]))
    factor = (wanted / mean) ** rng.uniform(0.55, 0.9) * np.exp(rng.normal(0, 0.03, 3))
    table = np.clip(levels[:, None] * factor, 0, 1) ** (1 / 2.2) * 255
    toned = cv2.LUT(rgb, table.astype(np.uint8).reshape(1, 256, 3))
    return np.dstack([toned, texture[..., 3]])


def dress(library: Library, traits: Traits, rng: np.random.Generator) -> list[tuple[str, Worn]]:
    """What the person wears and has on the head, each with its kind."""
    clothes = [n for n in library.names("clothes") if "suit" in n]
    own = "female" if traits.male < 0.5 else "male"
    fitting = [n for n in clothes if n.startswith(own)]
    suit = str(rng.choice(fitting if rng.random() < 0.85 or own == "male" else clothes))
    shoes = [n for n in library.names("clothes") if n.startswith("shoes")]
    kinds: list[tuple[str, Worn]] = [("clothes", library.worn("clothes", suit))]
    barefoot = 0.25 if "sport" in suit or (traits.child and "casual" in suit) else 0.02
    if rng.random() >= barefoot:
        kinds.append(("shoes", library.worn("clothes", str(rng.choice(shoes)))))
    styles = [n for n in library.names("hair") if library.worn("hair", n).texture is not None]
    female = [n for n in styles if not n.startswith(("short01", "short02", "short04"))]
    male = [n for n in styles if n.startswith("short")]
    wanted = female if own == "female" else male
    if rng.random() < 0.12:
        wanted = styles
    bald = 0.14 if own == "male" and not traits.child else 0.0
    if rng.random() < 0.07:
        hats = [n for n in library.names("clothes") if n.startswith("fedora")]
        if hats:
            kinds.append(("clothes", library.worn("clothes", str(rng.choice(hats)))))
            wanted = [n for n in wanted if n in ("short02", "short04", "long01")] or wanted
    if rng.random() >= bald:
        kinds.append(("hair", library.worn("hair", str(rng.choice(wanted)))))
    brows = [n for n in library.names("eyebrows") if library.worn("eyebrows", n).texture]
    kinds.append(("eyebrows", library.worn("eyebrows", str(rng.choice(brows)))))
    lashes = [n for n in library.names("eyelashes") if library.worn("eyelashes", n).texture]
    kinds.append(("eyelashes", library.worn("eyelashes", str(rng.choice(lashes)))))
    kinds.append(("eyes", library.worn("eyes", "low-poly")))
    kinds.append(("teeth", library.worn("teeth", "teeth_base")))
    return kinds


def assemble(library: Library, traits: Traits, rng: np.random.Generator) -> Person:
    """Body, clothes, hair and the rest as one mesh, in rest pose."""
    base = shape(library, traits)
    worn = dress(library, traits, rng)
    hair = hair_colour(rng, traits)
    covered = np.zeros(len(base), bool)
    for kind, thing in worn:
        if kind in GARMENTS:
            covered[thing.hides] = True
    body = library.base.groups["body"]
    triangles = library.base.triangles[body]
    shown = ~covered[triangles].all(1)
    used = np.unique(triangles[shown])
    where = np.full(len(base), -1, np.int32)
    where[used] = np.arange(len(used))

    vertices = [tucked(base, library, worn)[used]]
    weights = [library.rig.weights[used]]
    faces = [where[triangles[shown]]]
    uvs = [_corners(library.base.uv, library.base.uv_triangles[body][shown])]
    materials = [Material(skin_texture(library, traits, rng), SKIN, False, False)]
    material = [np.zeros(int(shown.sum()), np.int32)]
    start = len(used)
    for kind, thing in worn:
        fitted = thing.fit(base)
        vertices.append(fitted)
        weights.append(_weights(library, thing))
        faces.append(thing.mesh.triangles + start)
        uvs.append(_corners(thing.mesh.uv, thing.mesh.uv_triangles))
        material.append(np.full(len(thing.mesh.triangles), len(materials), np.int32))
        materials.append(_material(library, kind, thing, hair, rng))
        start += len(fitted)
        if kind == "hair" and rng.random() < 0.75:
            long = 0.4 if thing.name.startswith("short") else 1.0
            points, ribbons, roots = flyaways(fitted, rng, long)
            vertices.append(points)
            weights.append(_weights(library, thing)[roots])
            faces.append(ribbons + start)
            uvs.append(np.full((len(ribbons), 3, 2), 0.5))
            material.append(np.full(len(ribbons), len(materials), np.int32))
            strand = np.array([*(hair * 255), rng.uniform(90, 220)]).astype(np.uint8)
            materials.append(Material(np.tile(strand, (2, 2, 1)), HAIR, True, True))
            start += len(points)
    mesh = np.concatenate(vertices)
    return Person(
        traits, base, mesh, sparse.vstack(weights, format="csr"),
        np.concatenate(faces).astype(np.int32), np.concatenate(uvs).astype(np.float32),
        np.concatenate(material), tuple(materials), np.arange(len(mesh), dtype=np.int32),
    )  # fmt: skip


def flyaways(
    hair: np.ndarray, rng: np.random.Generator, long: float, steps: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single hairs that stand off: (V, 3) points, (T, 3) triangles of thin ribbons, and for each
    point the vertex of the (H, 3) `hair` mesh it grows from.  What makes hair hard to matte."""
    count = int(rng.integers(30, 260))
    roots = rng.integers(len(hair), size=count)
    outward = hair[roots] - hair.mean(0) - np.float32([0, 0.3, 0])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    along = 0.8 * outward + [0, -0.5, 0] + rng.normal(0, 0.45, (count, 3))
    reach = np.minimum(np.exp(rng.normal(-0.5, 0.5, (count, 1))), 1.3)  # decimetres
    step = long * reach / steps
    side = np.cross(along, rng.normal(0, 1, (count, 3)))
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-6
    wide = rng.uniform(0.006, 0.018, (count, 1))
    at, points = hair[roots].astype(np.float64), []
    bend = rng.normal(0, 0.25, (count, 3))
    for k in range(steps + 1):
        taper = wide * (1 - 0.7 * k / steps) / 2
        points.append(np.stack([at - side * taper, at + side * taper], 1))
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        at = at + along * step
        along = along + bend + [0, -0.18, 0]
    first = 2 * (steps + 1) * np.arange(count)[:, None, None]
    rung = 2 * np.arange(steps)[None, :, None]
    pair = np.array([[0, 1, 2], [2, 1, 3]])
    ribbons = (first + rung)[..., None] + pair  # (count, steps, 1 -> 2, 3)
    grown = np.stack(points, 1).reshape(-1, 3).astype(np.float32)
    return grown, ribbons.reshape(-1, 3).astype(np.int32), np.repeat(roots, 2 * (steps + 1))


def tucked(
    base: np.ndarray, library: Library, worn: list[tuple[str, Worn]], depth: float = 0.12
) -> np.ndarray:
    """The base mesh with its skin drawn in a little under clothes, so that it does not come
    through them when they bend."""
    cloth = [thing.fit(base) for kind, thing in worn if kind in GARMENTS]
    if not cloth:
        return base
    triangles = library.base.triangles[library.base.groups["body"]]
    skin = np.unique(triangles)
    normals = vertex_normals(base, triangles)
    points = np.concatenate(cloth)
    distance, nearest = cKDTree(points).query(base[skin], distance_upper_bound=0.45, workers=1)
    found = np.isfinite(distance)
    outward = np.zeros(len(skin), np.float32)
    gap = points[nearest[found]] - base[skin[found]]
    outward[found] = (gap * normals[skin[found]]).sum(1)
    # Fully under cloth that lies above the skin, less towards its rim, where skin comes out.
    under = found & (outward > -0.05)
    draw = np.zeros(len(base), np.float32)
    draw[skin[under]] = depth * np.clip(1.6 - distance[under] / 0.28, 0, 1)
    return base - normals * draw[:, None]


_WEIGHTS: dict[int, sparse.csr_matrix] = {}  # of things worn: the same for every body


def _weights(library: Library, thing: Worn) -> sparse.csr_matrix:
    if id(thing) not in _WEIGHTS:
        _WEIGHTS[id(thing)] = normalised(thing.weights(library.rig.weights), 0.01)
    return _WEIGHTS[id(thing)]


def _corners(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    flipped = uv.copy()
    flipped[:, 1] = 1 - flipped[:, 1]
    return flipped[triangles]


def _material(
    library: Library, kind: str, thing: Worn, hair: np.ndarray, rng: np.random.Generator
) -> Material:
    if kind in GARMENTS:
        texture = clothes_texture(thing, library, rng)
        return Material(texture, CLOTH if kind == "clothes" else LEATHER, False, True)
    if kind == "eyes":
        choices = sorted((library.makehuman / "eyes" / "materials").glob("*_eye.png"))
        return Material(library.texture(choices[rng.integers(len(choices))]), EYE, False, False)
    texture = library.texture(thing.texture)
    if kind == "hair":
        return Material(recolour(texture, hair, 0.95, rng.uniform(0.7, 1.1)), HAIR, True, True)
    if kind == "eyebrows":
        return Material(recolour(texture, hair * 0.7, 1.0), HAIR, True, True)
    if kind == "eyelashes":
        return Material(texture, HAIR, True, True)
    return Material(texture, EYE, False, True)
