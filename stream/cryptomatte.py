"""Cryptomatte: everyone of a frame in one EXR, by name, each matte exact.

After the specification, version 1.2.0 (J. Friedman and A. Jones, Psyop).  A layer holds two ranks,
the id of someone and how much of the pixel is theirs, the larger share first: `R` id, `G` share,
`B` id, `A` share.  An id is the MurmurHash3 of a name, read as a float32; the names are in the
file's header.  Every frame of a sequence has the same layers, however many people are in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

TYPE = "CryptoPerson"  # the layers are CryptoPerson00, 01, ...
RANKS = 6  # people a pixel can name: 3 layers, as other programs write by default


def murmur3(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 (A. Appleby, public domain): 32 bits."""
    c1, c2, mask = 0xCC9E2D51, 0x1B873593, 0xFFFFFFFF

    def mixed(block: int) -> int:
        block = block * c1 & mask
        block = (block << 15 | block >> 17) & mask
        return block * c2 & mask

    value = seed
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        value ^= mixed(int.from_bytes(data[at : at + 4], "little"))
        value = (value << 13 | value >> 19) & mask
        value = (value * 5 + 0xE6546B64) & mask
    if len(data) > whole:
        value ^= mixed(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        value ^= value >> shift
        value = value * factor & mask
    return value


@lru_cache(maxsize=4096)
def id_bits(name: str) -> int:
    """The id of a name as 32 bits: its hash, kept away from denormals, infinities and NaNs."""
    bits = murmur3(name.encode("utf-8"))
    exponent = bits >> 23 & 255
    return bits ^ 1 << 23 if exponent in (0, 255) else bits


def id_float(name: str) -> np.float32:
    """The id of a name as it stands in the picture."""
    return np.float32(np.array(id_bits(name), np.uint32).view(np.float32))


def header(names: Sequence[str], kind: str = TYPE) -> dict[str, str]:
    """What a file with these people says of itself."""
    key = f"cryptomatte/{murmur3(kind.encode('utf-8')):08x}"[: len("cryptomatte/") + 7]
    manifest = {name: f"{id_bits(name):08x}" for name in names}
    return {
        f"{key}/name": kind,
        f"{key}/hash": "MurmurHash3_32",
        f"{key}/conversion": "uint32_to_float32",
        f"{key}/manifest": json.dumps(manifest, ensure_ascii=False, separators=(",", ":")),
    }


def ranked(
    names: Sequence[str], alphas: Sequence[np.ndarray], size: tuple[int, int], ranks: int = RANKS,
    kind: str = TYPE,
) -> tuple[dict[str, np.ndarray], int]:  # fmt: skip
    """The channels of a frame, float32, and how many pixels had more people than ranks.

    `alphas` are uint8 codes, one (H, W) for each name.  Shares sum to at most 1 in every pixel:
    where rounding made them more, the smallest gives way.
    """
    height, width = size
    ids = np.zeros((ranks, height, width), np.float32)
    shares = np.zeros((ranks, height, width), np.uint8)
    left_out = 0
    for name, alpha in zip(names, alphas, strict=True):
        rows = np.flatnonzero(alpha.any(axis=1))
        if not len(rows):
            continue
        columns = np.flatnonzero(alpha.any(axis=0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        coming = alpha[part].copy()
        name_here = np.full(coming.shape, id_float(name), np.float32)
        for rank in range(ranks):  # an insertion sort, for all pixels at once
            there, there_id = shares[rank][part], ids[rank][part]
            more = coming > there
            swap, swap_id = there[more], there_id[more]
            there[more], there_id[more] = coming[more], name_here[more]
            coming[more], name_here[more] = swap, swap_id
        left_out += int(np.count_nonzero(coming))
    room = np.full((height, width), 255, np.int16)
    channels = {}
    for rank in range(ranks):
        share = np.minimum(shares[rank], room)
        room -= share
        ids[rank][share == 0] = 0  # "no one"
        layer = f"{kind}{rank // 2:02}"
        first, second = ("R", "G") if rank % 2 == 0 else ("B", "A")
        channels[f"{layer}.{first}"] = ids[rank]
        channels[f"{layer}.{second}"] = share.astype(np.float32) / np.float32(255)
    return channels, left_out


def shares_of(
    channels: Mapping[str, np.ndarray], head: Mapping[str, object]
) -> dict[str, np.ndarray]:
    """name -> (H, W) float32 share, of a file's channels and header, as a picker does it."""
    (kind,) = (str(v) for k, v in head.items() if k.endswith("/name"))
    (manifest,) = (json.loads(str(v)) for k, v in head.items() if k.endswith("/manifest"))
    found = {}
    for name, text in manifest.items():
        wanted = np.array(int(text, 16), np.uint32)
        total: np.ndarray | None = None
        for channel, ids in channels.items():
            if not channel.startswith(kind) or channel[-1] not in "RB":
                continue
            share = channels[channel[:-1] + ("G" if channel[-1] == "R" else "A")]
            here = np.where(ids.view(np.uint32) == wanted, share, np.float32(0))
            total = here if total is None else total + here
        assert total is not None, "a Cryptomatte has layers"
        found[name] = total
    return found
