"""What a video's numbers mean as colours: matrices, ranges, transfer curves, HDR made viewable.

Codes are those of ITU-T H.273, as containers and codecs carry them.  Pictures are (H, W, 3) RGB,
full range: uint8, uint16 (65535 = 1.0) or float32 in [0, 1].  "Linear" is light as the camera saw
it with 1.0 at diffuse white; values above 1 are highlights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import cv2
import numpy as np

UNSPECIFIED = 2
BT709, BT601_PAL, BT601, BT2020 = 1, 5, 6, 9
SRGB, PQ, HLG = 13, 16, 18  # transfers
LIMITED, FULL = 1, 2  # FFmpeg's own codes for the range
HDR_TRANSFERS = {PQ: "PQ (HDR10)", HLG: "HLG"}

# The share of red and of blue in luma, per matrix (H.273, table 4).
LUMA = {
    BT709: (0.2126, 0.0722), 4: (0.30, 0.11), BT601_PAL: (0.299, 0.114), BT601: (0.299, 0.114),
    7: (0.212, 0.087), BT2020: (0.2627, 0.0593), 10: (0.2627, 0.0593),
}  # fmt: skip
USUAL = {BT709: (1, 1), BT601_PAL: (5, 6), BT2020: (9, 14)}  # primaries and transfer of a matrix

PQ_WHITE_NITS = 203.0  # diffuse white of HDR pictures (ITU-R BT.2408)
PEAK = 1000.0 / PQ_WHITE_NITS  # highlights up to here keep their differences when tone-mapped


@dataclass(frozen=True)
class Colour:
    """How a picture's numbers mean colours, in H.273 codes, to be carried to the output."""

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    range: int = LIMITED

    @property
    def tags(self) -> dict[str, int]:
        """What to write on codec contexts and on every frame; gaps as is usual for the matrix."""
        usual = USUAL.get(self.matrix, (6, 6))
        return {
            "colorspace": self.matrix,
            "color_range": LIMITED,
            "color_primaries": self.primaries if self.primaries != UNSPECIFIED else usual[0],
            "color_trc": self.transfer if self.transfer != UNSPECIFIED else usual[1],
        }


SDR = Colour(BT709, BT709, BT709)


def tagged(what: Any, tags: dict[str, int]) -> None:
    """Write colour tags on a codec context or a frame."""
    for tag, value in tags.items():
        setattr(what, tag, value)


# -------------------------------------------------------------------------- matrices and planes


@cache
def rgb_matrix(matrix: int, full: bool) -> np.ndarray:
    """(3, 4) from Y, Cb, Cr codes to full-range RGB codes (ITU-T H.273, 8.3)."""
    red, blue = LUMA[matrix]
    green = 1 - red - blue
    to_rgb = np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
    zero = np.array([0, 128, 128] if full else [16, 128, 128])
    to_rgb *= np.array([1, 1, 1] if full else [255 / 219, 255 / 224, 255 / 224])
    return np.column_stack([to_rgb, -to_rgb @ zero]).astype(np.float32)


@cache
def yuv_matrix(matrix: int, bits: int = 8) -> np.ndarray:
    """(3, 4) from full-range RGB in [0, 255] to limited-range Y, Cb, Cr codes of this many bits."""
    red, blue = LUMA[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    cr = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    rows = [np.append(luma * 219 / 255, 16), np.append(cb * 224 / 255, 128)]
    return (np.array([*rows, np.append(cr * 224 / 255, 128)]) * 2 ** (bits - 8)).astype(np.float32)


def deep_rgb(picture: av.VideoFrame, size: tuple[int, int], matrix: int) -> np.ndarray:
    """A decoded picture of more than 8 bits as (H, W, 3) uint16 full-range RGB, depth kept."""
    form = picture.format
    bits = form.components[0].bits
    height, width = size
    if form.is_rgb or not _planar(form.name) or (picture.height, picture.width) != size:
        if form.is_rgb:
            whole = picture.reformat(width, height, "rgb48le").to_ndarray()
            return np.ascontiguousarray(whole)
        shared = form.chroma_width(64), form.chroma_height(64)
        plain = {(32, 32): "yuv420p", (32, 64): "yuv422p"}.get(shared, "yuv444p")
        name = f"{plain}{max(bits, 10)}le" if bits in (9, 10, 12, 14, 16) else f"{plain}10le"
        kept = 2 if is_full(picture) else 1
        picture = picture.reformat(
            width, height, name, src_color_range=kept, dst_color_range=kept
        )  # fmt: skip
        bits = picture.format.components[0].bits
    planes = []
    for plane in picture.planes[:3]:
        rows = np.frombuffer(plane, np.uint16).reshape(plane.height, plane.line_size // 2)
        level = rows[:, : plane.width].astype(np.float32) * np.float32(2.0 ** (8 - bits))
        if level.shape != size:
            level = cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR)
        planes.append(level)
    full = is_full(picture)
    # Full range counts to 2^bits - 1, not to 255 times a power of two.
    scale = 257.0 * (255 * 2.0 ** (bits - 8) / (2.0**bits - 1) if full else 1.0)
    rgb = cv2.transform(cv2.merge(planes), rgb_matrix(matrix, full)) * np.float32(scale)
    return np.clip(np.rint(rgb), 0, 65535).astype(np.uint16)


def _planar(name: str) -> bool:
    return name.startswith(("yuv4", "yuva4")) and name.endswith("le") and "p1" in name


def is_full(picture: av.VideoFrame) -> bool:
    """Whether the picture's codes use the full range."""
    return picture.color_range == FULL or picture.format.name.startswith("yuvj")


def yuv_planes(rgb: np.ndarray, matrix: int, bits: int) -> list[np.ndarray]:
    """Y, Cb and Cr of RGB (uint8, uint16 or float32 in [0, 1]), limited range, rounded, 4:4:4."""
    scale = {np.dtype(np.uint8): 1.0, np.dtype(np.uint16): 1 / 257}.get(rgb.dtype, 255.0)
    level = rgb.astype(np.float32)
    if scale != 1.0:
        level *= np.float32(scale)
    kind = np.uint8 if bits == 8 else np.uint16
    yuv = cv2.transform(level, yuv_matrix(matrix, bits))
    top = 2**bits - 1
    return [np.clip(np.rint(plane), 0, top).astype(kind) for plane in cv2.split(yuv)]


def picture_of(planes: list[np.ndarray], form: str) -> av.VideoFrame:
    """A frame for an encoder from its planes, each (h, w) of uint8 or uint16, or one (h, w, 3)."""
    if planes[0].ndim == 3:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(planes[0]), format=form)
    height, width = planes[0].shape
    picture = av.VideoFrame(width, height, form)
    for given, plane in zip(planes, picture.planes, strict=True):
        rows = np.frombuffer(plane, given.dtype).reshape(plane.height, -1)
        rows[:, : plane.width] = given
    return picture


# -------------------------------------------------------------------------------------- curves


@cache
def to_linear_table(transfer: int) -> np.ndarray:
    """(65536,) float32: linear light of each 16-bit code; the camera's curve undone.

    BT.709's inverse OETF for everything that is not sRGB, PQ (ST 2084) or HLG (BT.2100).
    """
    v = np.arange(65536) / 65535
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        p = v ** (1 / m2)
        linear = (np.maximum(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1) * 10000 / PQ_WHITE_NITS
    elif transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        linear = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
        linear = linear / 0.265  # HLG's diffuse white: 75 % signal (BT.2408)
    elif transfer == SRGB:
        linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    else:
        linear = np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))
    return linear.astype(np.float32)


def to_linear(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """float32 linear light of uint8 or uint16 RGB."""
    table = to_linear_table(transfer)
    return table[::257][rgb] if rgb.dtype == np.uint8 else table[rgb]


def from_linear(linear: np.ndarray, transfer: int) -> np.ndarray:
    """Display codes in [0, 1], float32, of linear light: `to_linear` turned round."""
    table = to_linear_table(transfer)
    codes = np.searchsorted(table, linear.ravel())
    return (codes.reshape(linear.shape) / np.float32(65535)).clip(0, 1).astype(np.float32)


# Linear BT.2020 to BT.709 primaries (ITU-R BT.2087).
TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


@cache
def _tone_curve(transfer: int) -> np.ndarray:
    """(4096,) uint8: BT.709 codes of linear light from 0 to twice the peak, highlights bent."""
    x = np.linspace(0, 2 * PEAK, 4096)
    knee = 0.8  # below, light is as it was
    room = 1 - knee
    over = np.maximum(x - knee, 0)
    bent = knee + room * over / (over + room) * (1 + room / (PEAK - knee))
    y = np.clip(np.where(x < knee, x, bent), 0, 1)
    code = np.where(y < 0.018, 4.5 * y, 1.099 * np.maximum(y, 1e-9) ** 0.45 - 0.099)
    return np.clip(np.rint(code * 255), 0, 255).astype(np.uint8)


def tone_mapped(deep: np.ndarray, colour: Colour) -> np.ndarray:
    """(H, W, 3) uint8 BT.709 for eyes and for the network, of (H, W, 3) uint16 PQ or HLG."""
    linear = to_linear(deep, colour.transfer)
    if colour.primaries in (BT2020, UNSPECIFIED):
        linear = cv2.transform(linear, TO_709)
    cells = np.clip(linear * np.float32(4095 / (2 * PEAK)), 0, 4095).astype(np.uint16)
    return _tone_curve(colour.transfer)[cells]
