"""NVIDIA's video decoder (NVDEC) and encoder (NVENC), through FFmpeg, where there are any.

`cpu` never asks for them, `auto` takes them where they work and says so where not, and `nvdec` and
`nvenc` are errors where they do not.  Data-centre GPUs have a decoder and no encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import av
from av.codec.hwaccel import HWAccel

# About what libx264's "superfast" at 18 gives: constant quality, no B-frames, in one pass.
NVENC_OPTIONS = {"preset": "p4", "tune": "hq", "rc": "vbr", "cq": "19", "b": "0", "bf": "0"}


class HardwareError(RuntimeError):
    """What was asked for is not in this machine; the message says what is missing."""


def decoder() -> HWAccel:
    """Decode on the GPU, and hand pictures over in the host's memory.

    Streams that it does not know are decoded on the CPU; a machine without it fails to open any.
    """
    return HWAccel("cuda", allow_software_fallback=True, is_hw_owned=False)


class Encoder(NamedTuple):
    """A codec for H.264, its options, and why it is not another, where that is worth a note."""

    codec: str
    options: dict[str, str]
    note: str | None = None


def h264(choice: str, software: Mapping[str, str]) -> Encoder:
    """The encoder of a choice (cpu, auto or nvenc); `software` are the options of libx264.

    Raises HardwareError where it has to be NVENC and cannot.
    """
    if choice == "cpu":
        return Encoder("libx264", dict(software))
    missing = without_nvenc()
    if missing is None:
        return Encoder("h264_nvenc", dict(NVENC_OPTIONS))
    if choice == "nvenc":
        raise HardwareError(
            f"there is no NVENC here ({missing}); set output.encoder to auto or cpu"
        )
    return Encoder("libx264", dict(software), f"encoded on the CPU: no NVENC here ({missing})")


def again(codec: str | None, choice: str) -> str:
    """The choice that leads to this codec once more: one film has one encoder.

    Nothing is known of a run of an earlier version: its choice stands.
    """
    return {"libx264": "cpu", "h264_nvenc": "nvenc"}.get(codec or "", choice)


@cache
def without_nvenc() -> str | None:
    """Why NVENC cannot be used, found out by opening it; None where it can."""
    try:
        context: Any = av.CodecContext.create("h264_nvenc", "w")
        context.width, context.height, context.pix_fmt = 320, 192, "yuv420p"
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.open()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None
