"""SMPTE timecode: `01:02:03:04`, and `01:02:03;04` with frame numbers dropped (ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction


def later(timecode: str, frames: int, rate: Fraction) -> str:
    """The timecode this many frames on, at this rate.

    Drop-frame is told by the `;` (or `.`) before the frame.  At 29.97 and 59.94 frames a second the
    first 2 or 4 numbers of every minute but each tenth do not exist.  Raises ValueError where the
    text is no timecode.
    """
    match = re.fullmatch(r"(\d{2})[:;.](\d{2})[:;.](\d{2})([:;.])(\d{2})", timecode)
    if not match:
        raise ValueError(f"{timecode!r} is no timecode; 01:02:03:04 is expected")
    hours, minutes, seconds, frame = (int(match.group(i)) for i in (1, 2, 3, 5))
    per_second = round(rate)
    dropped = 2 * per_second // 30 if match.group(4) in ";." else 0  # at a minute's start
    whole_minutes = hours * 60 + minutes
    count = (whole_minutes * 60 + seconds) * per_second + frame
    count -= dropped * (whole_minutes - whole_minutes // 10)
    count = (count + frames) % (24 * 60 * 60 * per_second - dropped * (24 * 60 - 24 * 6))
    if dropped:
        per_minute = 60 * per_second - dropped
        per_ten = 10 * per_minute + dropped
        tens, rest = divmod(count, per_ten)
        count += dropped * 9 * tens
        if rest > dropped:
            count += dropped * ((rest - dropped) // per_minute)
    seconds, frame = divmod(count, per_second)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    mark = match.group(4)
    return f"{hours % 24:02}:{minutes:02}:{seconds:02}{mark}{frame:02}"


def fits(timecode: str, rate: Fraction | None) -> bool:
    """Whether a timecode track can count at this rate; drop-frame belongs to multiples of 29.97."""
    if rate is None or round(rate) not in (24, 25, 30, 48, 50, 60, 100, 120, 150):
        return False
    return not (set(timecode) & set(";.")) or round(rate) % 30 == 0
