"""people.json of a finished video, read back and doubted: people edit it, and it comes from disks.

What `read` returns can be relied on: every field that this program uses is there, of its type,
finite, and fits the others.  Anything else is an InputError that names the field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import av

from stream.decode import InputError, open_container

PEOPLE, ALPHA = "people.json", "alpha.mkv"
RATIO = re.compile(r"[0-9]{1,12}(/[0-9]{1,12})?")  # as a Fraction is written
LARGEST = 1e12  # of any number: more is no time, no pixel and no count
LONGEST_SIDE = 1 << 16  # pixels
FORBIDDEN = '/\\:*?"<>|'  # in names, which also name files


def read_document(out: Path) -> dict[str, Any]:
    """people.json as it stands: of a video or of pictures.  Raises InputError."""
    path = out / PEOPLE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{out} holds no results of a run (no {PEOPLE})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    if not isinstance(document, dict) or document.get("kind") not in ("video", "images"):
        raise InputError(f"{path} is not a register as a run writes it")
    return document


def read(out: Path, pictures: str) -> dict[str, Any]:
    """people.json of a video, every field of it checked; `pictures` says why those will not do.

    Raises InputError where it is not there, not of a video, or not as a run writes it.
    """
    document = read_document(out)
    if document["kind"] != "video":
        raise InputError(f"{out} holds pictures: {pictures}")
    try:
        _check(document)
    except _WrongError as wrong:
        raise InputError(
            f"{out / PEOPLE} is not as a run writes it: {wrong}; undo the edit, or run again"
        ) from None
    return document


def frame_times(out: Path, document: Mapping[str, Any]) -> list[int]:
    """The exact times of all frames, from alpha.mkv, once it is known to be of the same run."""
    path = out / ALPHA
    if not path.is_file():
        raise InputError(f"{out} lacks {ALPHA}: it was moved, or never finished")
    try:
        with closing(open_container(str(path))) as file:
            (attached,) = file.streams.attachments
            times = json.loads(bytes(attached.data))
            pts, base = times["pts"], times["time_base"]
            tracks = file.streams.video
            there = {int(stream.metadata.get("PERSON_ID", 0)) for stream in tracks} - {0}
            if not isinstance(pts, list) or any(type(ticks) is not int for ticks in pts):
                raise ValueError("its times are no numbers")
            sizes = {(track.codec_context.height, track.codec_context.width) for track in tracks}
    except (OSError, av.error.FFmpegError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    told = {person["id"] for person in document["people"]}
    size = tuple(document["size"])
    for what, one, other in (
        ("frames", len(pts), document["frames"]),
        ("time_base", base, document["time_base"]),
        ("size", sizes, {size}),
        ("people", sorted(there), sorted(told)),
    ):
        if one != other:
            raise InputError(f"{path} and {PEOPLE} are not of one run: their {what} differ")
    return pts


def fits_as_name(name: str) -> bool:
    """Whether a person can be called this, in a track's title and in the name of a file."""
    plain = all(c.isprintable() and c not in FORBIDDEN for c in name)
    return (
        plain and bool(name) and name.strip(" .") == name and len(name) <= 60
        and not name.isdecimal()
    )  # fmt: skip


# ------------------------------------------------------------------------------------ the fields


class _WrongError(ValueError):
    """A field is missing, or is not what it should be."""


def _check(document: Mapping[str, Any]) -> None:
    height, width = _list(document, "size", 2)
    for side in (height, width):
        if type(side) is not int or not 1 <= side <= LONGEST_SIDE:
            _wrong("size", "should be height and width in pixels")
    _ratio(document, "time_base")
    if document.get("rate") is not None:
        _ratio(document, "rate")
    frames = _whole(document, "frames", 1)
    for name, default in (("complete", None), ("trimmed", False)):
        if type(document.get(name, default)) is not bool:
            _wrong(name, "should be true or false")
    for name in ("damage", "notes"):
        if not all(isinstance(line, str) for line in _list(document, name)):
            _wrong(name, "should be a list of sentences")
    if type(document.get("source")) is not str:
        _wrong("source", "should be the name of the input")
    if document.get("video_stream") is not None:
        _whole(document, "video_stream", 0)
    about = document.get("about")
    engine = about.get("engine", "") if isinstance(about, dict) else None
    if not isinstance(engine, str) or not engine.isprintable():
        _wrong("about", "should say what made this, such as the engine's name")
    if not isinstance(document["about"].get("settings", {}), dict):
        _wrong("about.settings", "should hold keys")
    _check_input(document)
    seen: set[int] = set()
    names: set[str] = set()
    for place, person in enumerate(_list(document, "people")):
        where = f"people[{place}]"
        if not isinstance(person, dict):
            _wrong(where, "should hold keys")
        _check_person(person, where, frames)
        if person["id"] in seen or person.get("name") in names:
            _wrong(where, "is there twice, by number or by name")
        seen.add(person["id"])
        names |= {person["name"]} if "name" in person else set()


def _check_input(document: Mapping[str, Any]) -> None:
    if "input" not in document:
        return  # of an earlier version: `finalize` says so
    known = document["input"]
    if not isinstance(known, dict):
        _wrong("input", "should hold keys")
    for name in ("path", "edges_sha256"):
        if type(known.get(name)) is not str:
            _wrong(f"input.{name}", "should be text")
    _whole(known, "bytes", 0, "input.")


def _check_person(person: Mapping[str, Any], where: str, frames: int) -> None:
    _whole(person, "id", 1, f"{where}.")
    name = person.get("name")
    if "name" in person and (not isinstance(name, str) or not fits_as_name(name)):
        _wrong(f"{where}.name", "cannot be a name")
    present = _list(person, "present", where=f"{where}.")
    if not present or any(type(index) is not int for index in present):
        _wrong(f"{where}.present", "should list the frames this person is in")
    rising = all(a < b for a, b in pairwise(present))
    if not rising or present[0] < 0 or present[-1] >= frames:
        _wrong(f"{where}.present", f"should be rising numbers of frames, 0 to {frames - 1}")
    if _whole(person, "frames", 1, f"{where}.") != len(present):
        _wrong(f"{where}.frames", "should be as many as are listed in `present`")
    for name in ("first_seconds", "last_seconds"):
        if not _finite(person.get(name)):
            _wrong(f"{where}.{name}", "should be a number of seconds")
    for box in _list(person, "boxes", len(present), f"{where}."):
        if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)):
            _wrong(f"{where}.boxes", "should be four numbers a frame")
    if not all(map(_finite, _list(person, "scores", len(present), f"{where}."))):
        _wrong(f"{where}.scores", "should be a number a frame")


def _wrong(name: str, why: str) -> NoReturn:
    raise _WrongError(f"{name} {why}")


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST < value < LARGEST and math.isfinite(value)


def _whole(values: Mapping[str, Any], name: str, low: int, where: str = "") -> int:
    value = values.get(name)
    if type(value) is not int or not low <= value < LARGEST:
        _wrong(f"{where}{name}", f"should be a whole number, {low} or more")
    return value


def _list(
    values: Mapping[str, Any], name: str, length: int | None = None, where: str = ""
) -> list[Any]:
    value = values.get(name)
    if not isinstance(value, list) or (length is not None and len(value) != length):
        count = "" if length is None else f" of {length}"
        _wrong(f"{where}{name}", f"should be a list{count}")
    return value


def _ratio(values: Mapping[str, Any], name: str) -> None:
    value = values.get(name)
    if not isinstance(value, str) or not RATIO.fullmatch(value):
        _wrong(name, "should be a ratio in text, such as 1/90000")
    if any(int(part) == 0 for part in value.split("/")):
        _wrong(name, "should be more than 0")
