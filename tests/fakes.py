"""Stand-ins with known answers: clips of coloured squares, and an engine that mattes squares.

A clip shows people as squares of their own colour that drift over a gray wall, so a test knows who
is where in every frame, and `SquaresEngine` finds them again after any codec.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from matting.frames import Frame, Mattes, no_one

WALL = (120, 120, 120)  # gray: what is behind everyone
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 210, 30),
    "magenta": (210, 30, 210),
    "cyan": (30, 210, 210),
}


def _nearest_colours() -> np.ndarray:
    """For RGB in 4 bits each: 0 where the wall is nearest, else the number of the colour from 1."""
    levels = np.stack(np.meshgrid(*[np.arange(16) * 16 + 8] * 3, indexing="ij"), -1).reshape(
        -1, 1, 3
    )
    distance = ((levels - np.array([WALL, *COLOURS.values()])) ** 2).sum(axis=-1)
    return distance.argmin(axis=1).astype(np.uint8)


_NEAREST = _nearest_colours()


@dataclass(frozen=True)
class Square:
    """A person: a square that drifts from where it starts, in view from `first` to `last`."""

    colour: str
    at: tuple[float, float] = (8.0, 8.0)  # (y, x) of the top left corner in frame 0, pixels
    step: tuple[float, float] = (0.0, 2.0)  # (y, x) pixels per frame
    side: int = 24
    first: int = 0  # index of the first frame it is in
    last: int = 10**9  # and of the last

    def box(self, index: int, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """x0 y0 x1 y1 in frame `index`, cut to the picture; None when not in view."""
        if not self.first <= index <= self.last:
            return None
        y = round(self.at[0] + index * self.step[0])
        x = round(self.at[1] + index * self.step[1])
        x0, y0 = max(0, x), max(0, y)
        x1, y1 = min(size[1], x + self.side), min(size[0], y + self.side)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


TWO = (Square("red", at=(16, 8)), Square("green", at=(48, 100), step=(0, -2)))


def picture(
    index: int = 0, squares: Sequence[Square] = TWO, size: tuple[int, int] = (96, 160)
) -> np.ndarray:
    """(H, W, 3) uint8: the wall with the squares of frame `index`; later ones are in front."""
    rgb = np.full((*size, 3), WALL, np.uint8)
    for square in squares:
        box = square.box(index, size)
        if box:
            rgb[box[1] : box[3], box[0] : box[2]] = COLOURS[square.colour]
    return rgb


def video(
    pts: Sequence[int] = tuple(range(10)),
    squares: Sequence[Square] = TWO,
    size: tuple[int, int] = (96, 160),
    time_base: Fraction = Fraction(1, 30),
) -> list[Frame]:
    """The frames of a clip without a file."""
    return [Frame(picture(i, squares, size), when, time_base) for i, when in enumerate(pts)]


def write_clip(
    path: Path | str,
    *,
    frames: int = 10,
    squares: Sequence[Square] = TWO,
    size: tuple[int, int] = (96, 160),
    rate: Fraction | int = 30,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    matrix: int | None = None,
    tag: int | None = None,
    full_range: bool = False,
    rotation: int = 0,
    mirrored: bool = False,
    audio: str | None = None,
    audio_start_seconds: float = 0.0,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    movflags: str | None = None,
    pixel_aspect: Fraction = Fraction(1),
) -> Path:
    """Write a clip of squares and return its path; its container is that of the name.

    `size` is that of the stored picture.  `pts` in ticks of `time_base` gives uneven times.
    `matrix` (H.273: 1 = BT.709, 6 = BT.601) is the one that pixels are converted with, `tag` the
    one that is written down (default: the same; 2 = not written).  `rotation` and `mirrored` are
    asked for in the header.  `audio` is a codec's name: a tone is added.
    """
    path = Path(path)
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    times = list(range(frames)) if pts is None else list(pts)
    if pts is None:
        times = [round(i / rate / time_base) for i in range(frames)]
    matrix = 6 if matrix is None else matrix
    tag = matrix if tag is None else tag
    with av.open(f"file:{path}", "w", options={"movflags": movflags} if movflags else {}) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate)
        context = stream.codec_context
        context.height, context.width = size
        context.pix_fmt = pix_fmt
        context.sample_aspect_ratio = pixel_aspect
        context.thread_count = 1
        stream.time_base = context.time_base = time_base
        if codec == "libx264":
            context.options = {"preset": "veryfast", "crf": "10", **(options or {})}
        elif options:
            context.options = options
        if tag != 2:
            context.colorspace = context.color_primaries = context.color_trc = tag
        context.color_range = 2 if full_range else 1
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound = out.add_stream(audio, rate=48000) if audio else None
        packets = []
        for index, when in enumerate(times):
            frame = _coded(picture(index, squares, size), pix_fmt, matrix, full_range)
            frame.pts, frame.time_base = when, time_base
            frame.colorspace, frame.color_range = tag, 2 if full_range else 1
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if sound:
            seconds = float((times[-1] + 1) * time_base)
            packets += _tone(sound, seconds, audio_start_seconds)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def _coded(rgb: np.ndarray, pix_fmt: str, matrix: int, full_range: bool) -> av.VideoFrame:
    """The picture in a codec's pixel format, by the formulas of ITU-T H.273 in double precision."""
    if av.VideoFormat(pix_fmt).is_rgb:
        return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    luma = rgb @ [red, 1 - red - blue, blue]
    chroma = [(rgb[..., c] - luma) / (2 - 2 * w) for c, w in ((2, blue), (0, red))]
    scale, dark, swing = (1, 0, 1) if full_range else (219 / 255, 16, 224 / 255)
    planes = [luma * scale + dark, *(plane * swing + 128 for plane in chroma)]
    planes = [np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes]
    if pix_fmt == "gray":
        return av.VideoFrame.from_ndarray(planes[0], format="gray")
    frame = av.VideoFrame.from_ndarray(np.stack(planes), format="yuv444p")
    kept = 2 if full_range else 1  # only the subsampling and the depth change here
    return frame.reformat(format=pix_fmt, src_color_range=kept, dst_color_range=kept)


def write_sound(path: Path | str, codec: str = "aac", seconds: float = 0.5) -> Path:
    """A file with a tone and no picture."""
    with av.open(f"file:{path}", "w") as out:
        for packet in _tone(out.add_stream(codec, rate=48000), seconds, 0.0):
            out.mux(packet)
    return Path(path)


def _tone(stream: Any, seconds: float, start_seconds: float) -> list[Any]:
    stream.codec_context.layout = "mono"
    layout, rate = stream.codec_context.layout, stream.codec_context.sample_rate
    resampler = av.AudioResampler(
        stream.codec_context.format.name if stream.codec_context.format else "fltp", layout, rate
    )
    wave = np.sin(np.arange(int(seconds * rate)) * (2 * np.pi * 440 / rate)) * 12000
    packets = []
    for at in range(0, len(wave), 1024):
        chunk = av.AudioFrame.from_ndarray(
            wave[None, at : at + 1024].astype(np.int16), format="s16", layout="mono"
        )
        chunk.sample_rate, chunk.time_base = rate, Fraction(1, rate)
        chunk.pts = at + int(start_seconds * rate)
        for piece in resampler.resample(chunk):
            packets += stream.encode(piece)
    return packets + stream.encode(None)


def cut_short(path: Path, keep: float) -> Path:
    """Throw away the end of a file, as a full disk or a broken copy does."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


@dataclass
class SquaresEngine:
    """An engine that finds squares by their colour: everyone's matte, score and code are known.

    A code is one number per colour of `COLOURS`: the one of the person's colour is 1.  The score is
    0.99, a little less for every colour further down the list.  Alpha is 1 on the square, and the
    part in view where another is in front.
    """

    name: str = "squares"
    fail_at: int | None = None  # the step, counted from 0, that raises RuntimeError
    steps: int = field(default=0, init=False)
    closed: bool = field(default=False, init=False)

    def start(self) -> int:
        return 0

    def step(self, rgb: np.ndarray, state: int) -> tuple[Mattes, int]:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"rgb should be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
        if self.fail_at is not None and state == self.fail_at:
            raise RuntimeError("the engine has failed, as it was told to")
        self.steps += 1
        height, width = rgb.shape[:2]
        red, green, blue = (rgb[:, :, channel].astype(np.uint16) >> 4 for channel in range(3))
        nearest = _NEAREST[red << 8 | green << 4 | blue]
        small = max(1, round(width / 8)), max(1, round(height / 8))
        people = []
        for number in range(len(COLOURS)):
            alpha = cv2.medianBlur((nearest == number + 1).astype(np.uint8), 5).astype(np.float32)
            rows, columns = np.nonzero(alpha)
            if len(rows) < 16:  # a few pixels of codec noise are nobody
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            coarse = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
            code = np.eye(len(COLOURS), dtype=np.float32)[number]
            people.append((alpha, coarse, 0.99 - 0.01 * number, box, code))
        if not people:
            return no_one((height, width), small[::-1], len(COLOURS)), state + 1
        fields = (np.array(field, np.float32) for field in zip(*people, strict=True))
        alpha, coarse, score, box, code = fields
        return Mattes(alpha, coarse, score, box, code, np.full(len(people), -1)), state + 1

    def close(self) -> None:
        self.closed = True


class DoubtfulEngine(SquaresEngine):
    """It misses everyone's lower half in every second picture."""

    def step(self, rgb: np.ndarray, state: int) -> tuple[Mattes, int]:
        mattes, after = super().step(rgb, state)
        if state % 2:
            alpha = mattes.alpha.copy()
            for one, box in zip(alpha, mattes.box, strict=True):
                one[round((box[1] + box[3]) / 2) :] = 0
            mattes = mattes.with_alpha(alpha)
        return mattes, after


@dataclass
class ColourTracker:
    """A tracker that knows people by their colour (their code), after `delay_frames` sightings."""

    delay_frames: int = 0
    resolved: dict[int, int] = field(default_factory=dict)
    _ids: dict[int, int] = field(default_factory=dict)
    _handles: dict[int, int] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)

    def update(self, mattes: Mattes, seconds: float, *, rgb=None) -> np.ndarray:
        names = []
        for code in mattes.code:
            colour = int(code.argmax())
            self._seen[colour] = self._seen.get(colour, 0) + 1
            if colour not in self._ids and self._seen[colour] > self.delay_frames:
                self._ids[colour] = len(self._ids) + 1
                if colour in self._handles:
                    self.resolved[self._handles[colour]] = self._ids[colour]
            if colour in self._ids:
                names.append(self._ids[colour])
            else:
                names.append(self._handles.setdefault(colour, -2 - len(self._handles)))
        return np.array(names, np.int64)

    def finish(self) -> None:
        """Whoever is not known by now stays unknown."""


def named(mattes: Mattes) -> Mattes:
    """Everyone under the id of their colour: red is 1, green 2, ..."""
    return mattes.named(mattes.code.argmax(axis=1) + 1 if len(mattes) else np.zeros(0, np.int64))


def textured(
    squares: Sequence[Square], frames: int = 12, seed: int = 0
) -> list[tuple[Frame, Mattes]]:
    """A clip whose wall and people have a pattern, so that motion can be seen, and who is in it."""
    rng = np.random.default_rng(seed)
    wall = rng.integers(-18, 18, (96, 160, 1))
    engine = SquaresEngine()
    made = []
    for frame in video(tuple(range(frames)), squares):
        mattes, _ = engine.step(frame.rgb, 0)
        rgb = np.clip(frame.rgb.astype(int) + wall, 0, 255).astype(np.uint8)
        made.append((replace(frame, rgb=rgb), named(mattes)))
    return made


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Wait for something that another thread does; False where it did not in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
