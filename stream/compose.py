"""The composite: everyone over the background they were given, without the old one's colour.

A pixel of the picture is I = sum_i alpha_i F_i + (1 - sum_i alpha_i) B.  The composite keeps the
people who stay, swaps B, and gives the share of people who go to the background:

    out = sum over those who stay of alpha_i F_i  +  (1 - sum over those who stay of alpha_i) B'

Where B' is the original background nothing needs to be taken apart, and untouched pixels come out
bit for bit.  All pictures are (H, W, 3) uint8 RGB, blended as displayed (gamma-encoded), alphas are
uint8 codes with 255 = 1.  Colours that have to be guessed (of a person at a soft edge, of the
background behind a person) are guessed on a picture about 135 rows high, where it is cheap.
"""

from __future__ import annotations

import colorsys
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from matting.frames import Frame, Mattes
from stream.colour import BT709, from_linear, to_linear
from stream.decode import InputError, Limits, Source, open_source
from stream.spread import even, halved, spread, weighted

LOW_ROWS = 135  # about the height at which hidden colours are guessed
SOLID, CLEAR = 250, 3  # alpha codes at which a low-resolution cell counts as all person, as no one
UNKNOWN = 128  # colour of what has nowhere to be guessed from
BLUR_BACKGROUND = 0.025  # sigma over the picture's height
BLUR_PERSON = 0.08  # sigma over the person's larger side: features go, clothes' colours stay
MARGIN = 0.012  # of the height: mattes end a little early, and an outline would stay
REGION_ROWS = 36  # the grid on which people's own background regions are drawn
REGION_EDGE = 0.04  # of the diagonal: how softly one region passes into the next
REGION_SECONDS = 0.4  # how long a region takes to follow a person
MOVED_CELLS = 0.5  # low-resolution pixels the camera may drift before what was seen is forgotten
MARK_STRENGTH = 0.5  # of a mark's colour; the rest is the person
FLAT_NOISE = 6.0  # codes: how much a picture may change where it has no gradient to show motion

COLOURS = {
    "black": "#000000", "white": "#ffffff", "gray": "#808080", "grey": "#808080",
    "silver": "#c0c0c0", "red": "#ff0000", "green": "#008000", "blue": "#0000ff",
    "yellow": "#ffff00", "cyan": "#00ffff", "magenta": "#ff00ff", "orange": "#ffa500",
    "purple": "#800080", "pink": "#ffc0cb", "brown": "#a52a2a", "navy": "#000080",
    "teal": "#008080", "lime": "#00ff00", "maroon": "#800000", "olive": "#808000",
}  # fmt: skip


# --------------------------------------------------------------------------- what is asked for


@dataclass(frozen=True)
class Backdrop:
    """What can stand behind someone: `original`, `blur` (of the original), a colour or a file."""

    kind: str  # "original" | "blur" | "colour" | "file"
    colour: tuple[int, int, int] = (0, 0, 0)
    path: str = ""

    @classmethod
    def of(cls, text: str) -> Backdrop:
        """Read `original` (or `keep`), `blur`, `#rgb`, `#rrggbb`, a colour's name, or a path."""
        word = text.strip()
        if word.lower() in ("original", "keep"):
            return cls("original")
        if word.lower() == "blur":
            return cls("blur")
        digits = COLOURS.get(word.lower(), word)
        if re.fullmatch(r"#[0-9a-fA-F]{3}", digits):
            digits = "#" + "".join(digit * 2 for digit in digits[1:])
        if re.fullmatch(r"#[0-9a-fA-F]{6}", digits):
            red, green, blue = (int(digits[i : i + 2], 16) for i in (1, 3, 5))
            return cls("colour", colour=(red, green, blue))
        return cls("file", path=word)


ORIGINAL = Backdrop("original")


@dataclass(frozen=True)
class Treatment:
    """What happens to one person: `keep`, `remove` or `blur` them, and what stands behind them.

    With a backdrop of their own, the part of the background nearest to this person becomes it.
    """

    person: str = "keep"  # "keep" | "remove" | "blur"
    background: Backdrop | None = None  # None: the background of the whole picture

    @classmethod
    def of(cls, text: str) -> Treatment:
        """Read `keep`, `remove`, `blur` (the person), or a colour or file (their background)."""
        word = text.strip().lower()
        if word in ("keep", "remove", "blur"):
            return cls(person=word)
        return cls(background=Backdrop.of(text))


KEEP = Treatment()


@dataclass(frozen=True)
class Look:
    """The background of the picture, and the treatments of the people who get one of their own."""

    background: Backdrop = ORIGINAL
    people: Mapping[int, Treatment] = field(default_factory=dict)
    marks: bool = False  # tint everyone in a colour of their own and write their number
    linear: bool = False  # mix people with a new background in linear light, not as displayed

    @classmethod
    def of(cls, background: str = "original", people: Mapping[int, str] | None = None) -> Look:
        """A look from words, as the command line and the settings file have them.

        `marks` as background is the original with everyone marked: a picture to read numbers from.
        """
        treatments = {number: Treatment.of(text) for number, text in (people or {}).items()}
        marks = background.strip().lower() == "marks"
        return cls(ORIGINAL if marks else Backdrop.of(background), treatments, marks)


def mark_colour(number: int) -> tuple[int, int, int]:
    """RGB of a person's mark: the same for a number always, far from its neighbours' colours."""
    hue = (number * 0.381966) % 1  # the golden section: no two small numbers come close
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def write_text(picture: np.ndarray, text: str, at: tuple[int, int], size: float) -> None:
    """Text that can be read on any picture, its lower left corner at x, y; drawn in place."""
    edge = max(1, round(1.5 * size))  # a thicker pen would not do: OpenCV 5 widens the letters too
    around = [(dx, dy) for dx in (-edge, 0, edge) for dy in (-edge, 0, edge) if dx or dy]
    for (dx, dy), shade in [*((shift, (0, 0, 0)) for shift in around), ((0, 0), (255, 255, 255))]:
        cv2.putText(picture, text, (at[0] + dx, at[1] + dy), cv2.FONT_HERSHEY_SIMPLEX, size, shade,
                    max(1, round(size)), cv2.LINE_AA)  # fmt: skip


def codes(alpha: np.ndarray) -> np.ndarray:
    """Alpha in [0, 1] as uint8 codes, rounded: what is composed and what is saved."""
    return cv2.convertScaleAbs(alpha, alpha=255.0)


# ------------------------------------------------------------------------------- the composer


class Composer:
    """Composes one video or set of pictures, frame after frame in order of time.

    Raises InputError at once when a background cannot be read.  The picture returned may be the
    frame's own array where nothing changes; treat it as read-only.
    """

    def __init__(self, look: Look, size: tuple[int, int], before: Composer | None = None) -> None:
        """`before` is the composer of the same video until now, where the look changes in
        mid-stream: clips go on where they are, and what was seen behind people is still known.
        It must not be used again; what this one does not need of it is closed by `close_unused`.
        """
        self._look = look
        own = [treatment.background for treatment in look.people.values()]
        self._backdrops = list(dict.fromkeys([look.background, *(b for b in own if b)]))
        kept: dict[Backdrop, _Layer] = before._layers if before else {}
        self._layers: dict[Backdrop, _Layer] = {
            b: kept[b] if b in kept else _layer(b, size) for b in self._backdrops
        }
        self._unused = [layer for b, layer in kept.items() if b not in self._layers]
        self._regions = _Regions(len(self._backdrops)) if len(self._backdrops) > 1 else None
        if before and before._backdrops == self._backdrops:
            self._regions = before._regions
        removes = any(treatment.person == "remove" for treatment in look.people.values())
        self._plate: _Plate | None = before._plate if before else None
        if self._plate is None and removes and ORIGINAL in self._backdrops:
            self._plate = _Plate()

    def close_unused(self) -> None:
        """Close what the composer before this one had open and this one has not taken over."""
        for layer in self._unused:
            if isinstance(layer, _Clip):
                layer.close()
        self._unused = []

    def close(self) -> None:
        self.close_unused()
        for layer in self._layers.values():
            if isinstance(layer, _Clip):
                layer.close()

    def __enter__(self) -> Composer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def remembers(self) -> bool:
        """Whether a picture depends on those before it: a clip runs, or a plate is gathered."""
        clips = any(isinstance(layer, _Clip) for layer in self._layers.values())
        return clips or self._plate is not None

    def compose(self, frame: Frame, mattes: Mattes) -> np.ndarray:
        """The composite of one frame, (H, W, 3) uint8."""
        scene = _Scene(frame, mattes, self._look)
        if self._plate:
            self._plate.see(scene)
        if self._regions is None:
            shares: list[np.ndarray | None] = [None]
        else:
            wanted = [self._backdrops.index(backdrop) for backdrop in scene.behind]
            shares = self._regions.shares(wanted, scene)
        picture = None
        for backdrop, share in zip(self._backdrops, shares, strict=True):
            if share is not None and not share.any():
                continue
            layer = self._over_original(scene) if backdrop == ORIGINAL else None
            if layer is None:
                layer = self._over(self._layers[backdrop], scene)
            picture = layer if picture is None or share is None else _mixed(picture, layer, share)
        assert picture is not None, "the shares of a pixel add up to one"
        return self._marked(picture, mattes) if self._look.marks else picture

    def cut_out(self, frame: Frame, mattes: Mattes) -> tuple[np.ndarray, np.ndarray]:
        """Everyone who is not removed, without any background: straight colours (H, W, 3) and
        alpha (H, W), both uint8.  Someone blurred is a blur of their own shape."""
        scene = _Scene(frame, mattes, self._look)
        rgb = scene.rgb
        if scene.kept is not None and (people := _region(scene.kept)):
            rgb = rgb.copy()
            rgb[people.slices] = scene._foreground(people)
        alpha = scene.kept
        for own in scene.blurred:
            rgb = scene.with_blurred(rgb, own)
            alpha = _sum(alpha, own)
        return rgb, np.zeros(frame.size, np.uint8) if alpha is None else alpha

    def _marked(self, picture: np.ndarray, mattes: Mattes) -> np.ndarray:
        """Everyone who was not removed in a colour of their own, with their number."""
        out = picture.copy()
        size = max(0.5, picture.shape[0] / 600)
        for person in mattes:
            if self._look.people.get(person.id, KEEP).person == "remove":
                continue
            part = _region(person.codes)
            if not part:
                continue
            alpha = cv2.convertScaleAbs(person.codes[part.slices], alpha=MARK_STRENGTH)
            colour = np.full((*part.size, 3), mark_colour(person.id), np.uint8)
            out[part.slices] = _blended(out[part.slices], colour, alpha)
            x = int(np.clip((person.box[0] + person.box[2]) / 2, 0, picture.shape[1] - 24 * size))
            y = int(max(person.box[1] + 28 * size, 28 * size))
            write_text(out, str(person.id), (x, y), size)
        return out

    def _over(self, layer: _Layer, scene: _Scene) -> np.ndarray:
        """Everyone who stays, over a new background."""
        return self._with_blurred(scene.over(layer.picture(scene)), scene)

    def _over_original(self, scene: _Scene) -> np.ndarray:
        """The picture itself; only those who are removed or blurred change it."""
        out = scene.rgb
        hole = self._plate.replacement(scene) if self._plate and scene.removed is not None else None
        if hole:
            part, gone, empty = hole
            empty = scene.over(empty, part)  # who stays may stand before who goes
            out = out.copy()
            out[part.slices] = _blended(scene.rgb[part.slices], empty, gone)
        return self._with_blurred(out, scene)

    def _with_blurred(self, out: np.ndarray, scene: _Scene) -> np.ndarray:
        for alpha in scene.blurred:
            out = scene.with_blurred(out, alpha)
        return out


class _Scene:
    """One frame as the composer needs it: who stays, who goes, and the picture made small."""

    def __init__(self, frame: Frame, mattes: Mattes, look: Look) -> None:
        self.rgb = frame.rgb
        self.seconds = frame.seconds
        self.size = frame.size
        self.kept: np.ndarray | None = None  # sum of the alphas of those who stay, in codes
        self.removed: np.ndarray | None = None
        self.everyone: np.ndarray | None = None
        self.blurred: list[np.ndarray] = []
        self.behind: list[Backdrop] = []  # per visible person, the backdrop behind them
        self.boxes: list[np.ndarray] = []
        for person in mattes:
            treatment = look.people.get(person.id, KEEP)
            alpha = person.codes
            self.everyone = _sum(self.everyone, alpha)
            if treatment.person == "remove":
                self.removed = _sum(self.removed, alpha)
            elif treatment.person == "blur":
                self.blurred.append(alpha)
            else:
                self.kept = _sum(self.kept, alpha)
            if treatment.person != "remove" or treatment.background:
                self.behind.append(treatment.background or look.background)
                self.boxes.append(person.box)
        self._linear = look.linear
        self._freed: np.ndarray | None = None  # `_foreground`, once asked for
        self.steps = max(0, round(math.log2(self.size[0] / LOW_ROWS)))  # halvings to LOW_ROWS

    @cached_property
    def small(self) -> np.ndarray:
        """(h, w, 3) uint8, the picture at about LOW_ROWS rows."""
        return self.shrunk(self.rgb)

    def shrunk(self, picture: np.ndarray) -> np.ndarray:
        """Halved as often as `small` is; an odd last row or column is left out."""
        for _ in range(self.steps):
            picture = halved(picture[: picture.shape[0] & -2 or 1, : picture.shape[1] & -2 or 1])
        return picture

    def grown(self, picture: np.ndarray) -> np.ndarray:
        return cv2.resize(picture, self.size[::-1], interpolation=cv2.INTER_LINEAR)

    @cached_property
    def clear(self) -> np.ndarray:
        """(h, w) bool: cells of the small picture away from everyone."""
        if self.everyone is None:
            return np.ones(self.small.shape[:2], bool)
        hidden = (self.shrunk(self.everyone) > CLEAR).astype(np.uint8)
        return _dilated(hidden, MARGIN * hidden.shape[0]) == 0

    def over(self, base: np.ndarray, part: Region | None = None) -> np.ndarray:
        """Those who stay, in their own colours, over `base`: the frame, or this part of it."""
        if self.kept is None:
            return base
        people = _region(self.kept)
        shared = people & part if part else people
        if not shared:
            return base
        out = base.copy()
        here = shared.within(part) if part else shared.slices
        freed = self._foreground(people)[shared.within(people)]
        mix = _blended_light if self._linear else _blended
        out[here] = mix(base[here], freed, self.kept[shared.slices])
        return out

    def _foreground(self, people: Region) -> np.ndarray:
        """The colours of those who stay, freed of what was behind them, in their part of the frame.

        Where alpha is 0 or 255 that is the picture.  Between, smooth guesses of the foreground and
        of what lies behind are spread from where each is seen alone; the guess is then moved along
        alpha so that the two explain the pixel, in the manner of M. Forte, "Approximate Fast
        Foreground Colour Estimation" (ICIP 2021).
        """
        if self._freed is not None:
            return self._freed
        assert self.kept is not None
        # Some of what lies around belongs to it; cells of the small picture are taken whole.
        cell = 2**self.steps
        top, left = (max(0, (start // cell - 4) * cell) for start in (people.top, people.left))
        around = slice(top, people.bottom + 4 * cell), slice(left, people.right + 4 * cell)
        small, alpha = self.shrunk(self.rgb[around]), self.shrunk(self.kept[around])
        front, back = spread(small, alpha >= SOLID, UNKNOWN), spread(small, alpha <= CLEAR, UNKNOWN)

        part = np.ascontiguousarray(self.kept[people.slices])
        freed = np.ascontiguousarray(self.rgb[people.slices])
        soft = cv2.findNonZero(cv2.inRange(part, 1, 254))
        if soft is not None:
            x, y = soft.reshape(-1, 2).T  # OpenCV 4 has a dimension more than 5
            pixel = y * part.shape[1] + x
            cell_x = np.minimum((x + (people.left - left)) >> self.steps, small.shape[1] - 1)
            cell_y = np.minimum((y + (people.top - top)) >> self.steps, small.shape[0] - 1)
            cells = cell_y * small.shape[1] + cell_x
            colours = freed.reshape(-1, 3)
            guess = front.reshape(-1, 3).take(cells, axis=0)
            behind = back.reshape(-1, 3).take(cells, axis=0)
            a = part.ravel().take(pixel)[:, None] * np.float32(1 / 255)
            unexplained = colours.take(pixel, axis=0) - behind - a * (guess - behind)
            colours[pixel] = cv2.convertScaleAbs(np.maximum(guess + a * unexplained, 0))
        self._freed = freed
        return freed

    def with_blurred(self, out: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """`out` with the person of this alpha smeared over it."""
        where = _region(alpha)
        if not where:
            return out
        out, here = out.copy(), where.slices
        out[here] = _blended(out[here], self._smear(alpha, where), alpha[here])
        return out

    def _smear(self, alpha: np.ndarray, where: Region) -> np.ndarray:
        """In the person's region `where`, (h, w, 3) uint8: their own colours, smeared until they
        cannot be told."""
        own = self.shrunk(alpha)
        inside = own >= 128 if (own >= 128).any() else own > 0
        sigma, cell = BLUR_PERSON * max(where.size) / 2**self.steps, 2**self.steps
        halvings = max(0, math.ceil(math.log2(sigma / 2)))  # so wide a blur needs no fine picture
        # Whole coarse cells around the person: nothing else of the picture counts.
        coarse = cell << halvings
        top, left = (max(0, start // coarse - 1) for start in (where.top, where.left))
        bottom, right = (-(-end // coarse) + 1 for end in (where.bottom, where.right))
        part = slice(top << halvings, bottom << halvings), slice(left << halvings,
                                                                 right << halvings)  # fmt: skip
        level = weighted(self.small[part], inside[part])
        for _ in range(halvings):
            level = halved(even(level))
        level = cv2.GaussianBlur(
            level, (0, 0), max(sigma / 2**halvings, 0.5), borderType=cv2.BORDER_CONSTANT
        )
        smeared = level[:, :, :3] / np.maximum(level[:, :, 3:], 1e-6)
        smear = _bytes(spread(smeared, level[:, :, 3] > 0.02, UNKNOWN))
        size = smear.shape[1] * coarse, smear.shape[0] * coarse
        grown = cv2.resize(smear, size, interpolation=cv2.INTER_LINEAR)
        bottom, right = where.bottom - top * coarse, where.right - left * coarse
        beyond = max(0, bottom - grown.shape[0]), max(0, right - grown.shape[1])
        if any(beyond):  # rows and columns that halving has left out
            grown = cv2.copyMakeBorder(grown, 0, beyond[0], 0, beyond[1], cv2.BORDER_REPLICATE)
        return grown[bottom - where.size[0] : bottom, right - where.size[1] : right]


# -------------------------------------------------------------------------------- backgrounds


class _Layer(ABC):
    """One background, fitted to the frame."""

    @abstractmethod
    def picture(self, scene: _Scene) -> np.ndarray:
        """(H, W, 3) uint8, not to be written to."""


def _layer(backdrop: Backdrop, size: tuple[int, int]) -> _Layer:
    match backdrop.kind:
        case "colour":
            return _Still(np.full((1, 1, 3), backdrop.colour, np.uint8), size)
        case "file":
            return _from_file(backdrop.path, size)
        case "original":
            return _AsItWas()
    return _Blurred()


def _from_file(path: str, size: tuple[int, int]) -> _Layer:
    try:
        if not os.path.exists(path) and not re.search(r"[./\\]", path):
            raise InputError(
                f"{path!r} is neither a file nor a colour; colours are #rrggbb or one of "
                f"{', '.join(COLOURS)}"
            )
        if Path(path).is_dir():
            raise InputError(f"{path} is a folder; one picture or one video is expected")
        source = open_source(path, threads=1, limits=Limits(aspect=math.inf))  # it is not matted
    except InputError as error:
        raise InputError(f"background: {error}") from None
    if source.kind == "video":
        return _Clip(source)
    with source:
        return _Still(next(iter(source.frames())).rgb, size)


class _Still(_Layer):
    """A picture that fills the frame, or one colour (a picture of one pixel)."""

    def __init__(self, rgb: np.ndarray, size: tuple[int, int]) -> None:
        self._rgb = rgb
        self._fitted = _cover(rgb, size)

    def picture(self, scene: _Scene) -> np.ndarray:
        if self._fitted.shape[:2] != scene.size:  # photographs come in many sizes
            self._fitted = _cover(self._rgb, scene.size)
        return self._fitted


class _Clip(_Layer):
    """A video that starts with the first frame, keeps its own speed, and starts over at its end."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._origin: float | None = None  # seconds of the frame under the clip's first one
        self._frames: Iterator[Frame] = iter(())
        self._coming: Frame | None = None
        self._shown: Frame | None = None
        self._fitted: np.ndarray | None = None
        self._fitted_from: Frame | None = None

    def picture(self, scene: _Scene) -> np.ndarray:
        if self._origin is None or scene.seconds < self._origin:
            self._start(scene.seconds)
        self._advance(scene.seconds)
        assert self._shown is not None
        stale = self._fitted is None or self._fitted.shape[:2] != scene.size
        if stale or self._fitted_from is not self._shown:
            aspect = float(self._source.pixel_aspect)
            self._fitted = _cover(self._shown.rgb, scene.size, aspect)
            self._fitted_from = self._shown
        assert self._fitted is not None
        return self._fitted

    def _start(self, origin: float) -> None:
        self._origin = origin
        self._source.close()  # the reading of the turn before
        self._frames = self._source.frames()
        self._shown = next(self._frames)
        self._first = self._shown.seconds
        self._coming = next(self._frames, None)

    def _advance(self, seconds: float) -> None:
        assert self._origin is not None and self._shown is not None
        while True:
            due = seconds - self._origin + self._first + 1e-6  # on the clip's own clock
            if self._coming is not None:
                if self._coming.seconds > due:
                    return
                self._shown, self._coming = self._coming, next(self._frames, None)
                continue
            step = float(1 / self._source.rate) if self._source.rate else 0.04
            length = self._shown.seconds - self._first + step
            if due < self._first + length:
                return
            turns = math.floor((due - self._first) / length)
            self._start(self._origin + turns * length)

    def close(self) -> None:
        self._source.close()


class _Blurred(_Layer):
    """The original background out of focus.  People are left out first, or they would glow."""

    def picture(self, scene: _Scene) -> np.ndarray:
        filled = _bytes(spread(scene.small, scene.clear, UNKNOWN))
        sigma = BLUR_BACKGROUND * filled.shape[0]
        return scene.grown(cv2.GaussianBlur(filled, (0, 0), max(sigma, 0.5)))


class _AsItWas(_Layer):
    """The original is composed by the composer itself, from the untouched picture."""

    def picture(self, scene: _Scene) -> np.ndarray:
        return scene.rgb


class _Plate:
    """The background as last seen without anyone: what shows where a person is removed.

    Where nobody has ever stepped aside, colours are spread inwards from the surroundings.  What is
    remembered is corrected for slow changes of light, and forgotten when the camera moves.
    """

    def __init__(self) -> None:
        self._seen = np.zeros((0, 0, 3), np.uint8)  # (H, W, 3) the last unhidden view of each pixel
        self._known = np.zeros((0, 0), bool)  # (h, w) cells of which `_seen` means something
        self._anchor = self._seen, self._known  # the first small picture, and its clear cells
        self._light = np.zeros(3, np.float32)  # RGB codes by which it has become brighter since
        self._light_seen = np.zeros((0, 0, 3), np.float32)  # (h, w, 3) the same, when last seen

    def see(self, scene: _Scene) -> None:
        if self._seen.shape != scene.rgb.shape or self._camera_moved(scene.small, scene.clear):
            self._seen = scene.rgb.copy()
            self._known = np.zeros(scene.clear.shape, bool)
            self._anchor = scene.small, scene.clear
            self._light = np.zeros(3, np.float32)
            self._light_seen = np.zeros(scene.small.shape, np.float32)
        cv2.copyTo(scene.rgb, _to_size(scene.clear, scene.size), self._seen)
        self._known |= scene.clear
        self._light_seen[scene.clear] = self._light

    def _camera_moved(self, small: np.ndarray, clear: np.ndarray) -> bool:
        """Compare with the picture from which remembering began, where both show background.

        A picture displaced by d pixels differs by about d times its gradient, so the ratio of the
        two is a displacement; the constant stands for noise in flat places.
        """
        then, then_clear = self._anchor
        both = (clear & then_clear)[::2, ::2]  # a quarter of the cells is plenty
        if not both.any():
            return False
        change = small[::2, ::2][both].astype(np.float32) - then[::2, ::2][both]
        self._light = np.median(change, axis=0)  # a change of light is not a motion
        green = then[::2, :, 1].astype(np.int16)
        steps = np.abs(np.diff(green, axis=1, append=green[:, -1:]))[:, ::2]
        limit = MOVED_CELLS * (float(steps[both].mean()) + FLAT_NOISE)
        return float(np.abs(change - self._light).mean()) > limit

    def replacement(self, scene: _Scene) -> tuple[Region, np.ndarray, np.ndarray] | None:
        """Where removed people are: that part of the frame, alpha codes of what to replace in it,
        and the background to put there."""
        assert scene.removed is not None
        small = (scene.shrunk(scene.removed) > CLEAR).astype(np.uint8) * 255
        margin = MARGIN * small.shape[0]
        wide = cv2.GaussianBlur(_dilated(small, 2 * margin), (0, 0), max(0.5, margin / 2))
        cells = _region(wide)
        if not cells:
            return None
        part = cells.scaled(2**scene.steps, scene.size)

        def grown(picture: np.ndarray) -> np.ndarray:
            picture = np.ascontiguousarray(picture[cells.slices])
            return cv2.resize(picture, part.size[::-1], interpolation=cv2.INTER_LINEAR)

        gone = cv2.max(grown(wide), scene.removed[part.slices])
        empty = grown(_bytes(spread(scene.small, scene.clear, UNKNOWN)))
        if self._known.any():
            brighter = grown(np.rint(self._light - self._light_seen).astype(np.int16))
            seen = cv2.add(self._seen[part.slices].astype(np.int16), brighter)
            known = grown(cv2.erode(self._known.astype(np.uint8) * 255, np.ones((3, 3))))
            empty = _blended(empty, np.clip(seen, 0, 255).astype(np.uint8), known)
        return part, gone, empty


class _Regions:
    """Whose background is where, when people have backgrounds of their own.

    Every cell of a coarse grid leans to the backdrop of the nearest visible people, softly, and
    follows them with a delay so that borders glide.  While nobody is visible it stays as it was.
    """

    def __init__(self, backdrops: int) -> None:
        self._backdrops = backdrops
        self._weights: np.ndarray | None = None  # (K, rows, columns) float32, sums to 1
        self._seconds = 0.0

    def shares(self, wanted: list[int], scene: _Scene) -> list[np.ndarray | None]:
        """Per backdrop, (H, W) alpha codes: mixed in over the ones before it in turn."""
        height, width = scene.size
        rows, columns = REGION_ROWS, max(1, round(REGION_ROWS * width / height))
        if self._weights is not None and self._weights.shape[1:] != (rows, columns):
            self._weights = None
        if wanted:
            now = self._nearest(wanted, scene, rows, columns)
            gone = max(0.0, scene.seconds - self._seconds)
            if self._weights is None:
                self._weights = now
            else:
                self._weights += (now - self._weights) * (1 - math.exp(-gone / REGION_SECONDS))
            self._seconds = scene.seconds
        elif self._weights is None:
            self._weights = np.zeros((self._backdrops, rows, columns), np.float32)
            self._weights[0] = 1
            self._seconds = scene.seconds
        so_far = np.zeros((rows, columns), np.float32)
        shares: list[np.ndarray | None] = []
        for weight in self._weights:
            so_far = so_far + weight
            share = weight / np.maximum(so_far, 1e-6)
            shares.append(scene.grown(cv2.convertScaleAbs(share, alpha=255.0)))
        return shares

    def _nearest(self, wanted: list[int], scene: _Scene, rows: int, columns: int) -> np.ndarray:
        height, width = scene.size
        x = ((np.arange(columns) + 0.5) * width / columns)[None, :]
        y = ((np.arange(rows) + 0.5) * height / rows)[:, None]
        distances = []
        for x0, y0, x1, y1 in scene.boxes:
            outside = np.hypot(
                np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0)
            )
            centre = np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2)
            distances.append(outside + 0.25 * centre)  # the centre decides where boxes overlap
        distance = np.stack(distances)
        edge = REGION_EDGE * math.hypot(height, width)
        pull = np.exp(-(distance - distance.min(axis=0)) / edge)
        weights = np.zeros((self._backdrops, rows, columns), np.float32)
        np.add.at(weights, wanted, pull.astype(np.float32))
        return weights / weights.sum(axis=0)


# --------------------------------------------------------------------- regions, small pictures


@dataclass(frozen=True)
class Region:
    """A rectangle of a picture, in whole pixels; false when empty."""

    top: int
    left: int
    bottom: int
    right: int

    def __bool__(self) -> bool:
        return self.bottom > self.top and self.right > self.left

    def __and__(self, other: Region) -> Region:
        return Region(
            max(self.top, other.top), max(self.left, other.left),
            min(self.bottom, other.bottom), min(self.right, other.right),
        )  # fmt: skip

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, other: Region) -> tuple[slice, slice]:
        """The slices of this region in a picture that holds only `other`."""
        top, left = self.top - other.top, self.left - other.left
        return slice(top, top + self.size[0]), slice(left, left + self.size[1])

    def scaled(self, cell: int, size: tuple[int, int]) -> Region:
        """The same region of the (H, W) picture that was shrunk; its last cells reach the edge."""
        bottom = size[0] if self.bottom >= size[0] // cell else self.bottom * cell
        right = size[1] if self.right >= size[1] // cell else self.right * cell
        return Region(self.top * cell, self.left * cell, bottom, right)


def _region(alpha: np.ndarray) -> Region:
    """The smallest region outside which alpha is 0."""
    x, y, width, height = cv2.boundingRect(alpha)
    return Region(y, x, y + height, x + width)


def _sum(total: np.ndarray | None, alpha: np.ndarray) -> np.ndarray:
    return alpha if total is None else cv2.add(total, alpha)  # uint8: stops at 255


def _mixed(base: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`top` over `base` by alpha codes; pictures of one size."""
    if top is base:
        return base
    where = _region(alpha).slices
    out = base.copy()
    if _region(alpha):
        out[where] = _blended(base[where], top[where], alpha[where])
    return out


def _blended(base: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`top` over `base` by alpha codes: exact at 0 and 255, within one code between."""
    share = cv2.merge([alpha, alpha, alpha])
    upper = cv2.multiply(top, share, scale=1 / 255)
    lower = cv2.multiply(base, cv2.bitwise_not(share, dst=share), scale=1 / 255)
    return cv2.add(upper, lower, dst=upper)


def _blended_light(base: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`_blended`, as light adds up; exact at 0 and 255."""
    share = alpha.astype(np.float32)[:, :, None] * np.float32(1 / 255)
    light = to_linear(base, BT709)
    light += share * (to_linear(top, BT709) - light)
    mixed = np.rint(from_linear(light, BT709) * 255).astype(np.uint8)
    return np.where(share == 0, base, np.where(share == 1, top, mixed))


def _dilated(picture: np.ndarray, radius: float) -> np.ndarray:
    side = 2 * max(1, round(radius)) + 1
    return cv2.dilate(picture, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _to_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bool mask as (H, W) uint8 of 0 and 255."""
    codes = mask.astype(np.uint8) * 255
    return cv2.resize(codes, size[::-1], interpolation=cv2.INTER_NEAREST)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(picture)


def _cover(rgb: np.ndarray, size: tuple[int, int], pixel_aspect: float = 1.0) -> np.ndarray:
    """The picture scaled to fill (H, W), what is too much cut off evenly on both sides."""
    height, width = rgb.shape[0], rgb.shape[1] * pixel_aspect
    scale = max(size[0] / height, size[1] / width)
    # The part of the picture that will be seen, in its own pixels.
    rows = min(rgb.shape[0], max(1, round(size[0] / scale)))
    columns = min(rgb.shape[1], max(1, round(size[1] / scale / pixel_aspect)))
    top, left = (rgb.shape[0] - rows) // 2, (rgb.shape[1] - columns) // 2
    crop = rgb[top : top + rows, left : left + columns]
    shrinking = rows >= 2 * size[0] or columns >= 2 * size[1]  # below, areas look no better
    return cv2.resize(
        crop, size[::-1], interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    )
