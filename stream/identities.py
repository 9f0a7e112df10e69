"""Who is who in a finished run, put right by hand: merge, split, rename, delete.

Only `people.json` and `alpha.mkv` are touched, and no network runs.  Every frame of a track stands
alone, so a track is edited by handing its packets to another track: what is copied stays the same
to the bit, and a frame is coded anew only where two people who are both in it become one.  The
results are replaced when the new ones are whole.  Other deliverables made earlier are not changed:
make them again (`finalize`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from stream import register
from stream.decode import InputError
from stream.encode import OutputError
from stream.register import ALPHA, PEOPLE
from stream.store import AlphaCoder

HALF_TICK = 5e-4  # seconds: moments are written with milliseconds


class IdentityError(ValueError):
    """What is asked for makes no sense for these people; the message says why."""


@dataclass(frozen=True)
class Listed:
    """One person of a run, as `ids list` tells them."""

    id: int
    name: str | None
    frames: int
    first_seconds: float
    last_seconds: float


def listed(out: Path) -> list[Listed]:
    """Everyone in the results of a run, by number."""
    return [
        Listed(
            person["id"], person.get("name"), person["frames"], person["first_seconds"],
            person["last_seconds"],
        )
        for person in _read(out)["people"]
    ]  # fmt: skip


def merge(out: Path, into: int, others: Sequence[int]) -> None:
    """`others` become `into`.  Where both are in a frame, their mattes are added."""
    document = _read(out)
    _known(document, [into, *others])
    if into in others or len(set(others)) < len(others):
        raise IdentityError("name everyone once: the number that stays, then those that become it")
    _rewrite(out, document, lambda number, index: into if number in others else number)


def split(out: Path, number: int, seconds: float) -> int:
    """From `seconds` on, `number` is someone else; returns the new number."""
    document = _read(out)
    _known(document, [number])
    pts, base = _times(out, document)
    when = [float(ticks * base) for ticks in pts]
    (person,) = (p for p in document["people"] if p["id"] == number)
    after = [index for index in person["present"] if when[index] >= seconds - HALF_TICK]
    if not after or len(after) == len(person["present"]):
        raise IdentityError(
            f"person {number} is there from {person['first_seconds']:.2f} s to "
            f"{person['last_seconds']:.2f} s: nothing is left on one side of {seconds:g} s"
        )
    new = 1 + max(p["id"] for p in document["people"])
    first = after[0]
    _rewrite(out, document, lambda old, index: new if old == number and index >= first else old)
    return new


def rename(out: Path, names: Mapping[int, str | None]) -> None:
    """People get these names; None takes a name away."""
    document = _read(out)
    _known(document, list(names))
    for person in document["people"]:
        if person["id"] in names:
            person.pop("name", None)
            if name := names[person["id"]]:
                person["name"] = checked_name(name)
    given = [person["name"] for person in document["people"] if "name" in person]
    if twice := {name for name in given if given.count(name) > 1}:
        raise IdentityError(f"two people cannot both be {min(twice)}; merge them instead")
    _rewrite(out, document, lambda number, index: number)


def delete(out: Path, numbers: Sequence[int]) -> None:
    """These people are taken out of the results."""
    document = _read(out)
    _known(document, numbers)
    _rewrite(out, document, lambda number, index: None if number in numbers else number)


def checked_name(name: str) -> str:
    """The name, where it can stand in a track's title and in a file's name."""
    if not register.fits_as_name(name):
        raise IdentityError(
            f"{name!r} cannot be a name: it also names files, so give it 1 to 60 letters, "
            'not only digits, without / \\ : * ? " < > | and without spaces or dots at its ends'
        )
    return name


def usable(names: Mapping[int, str]) -> dict[int, str]:
    """Names as they were typed somewhere, made such that `rename` takes them.

    What files cannot be called becomes `_`; of two people with one name the second gets their
    number behind it; what is left without a name is left out.
    """
    made: dict[int, str] = {}
    for number, text in sorted(names.items()):
        plain = "".join(c if register.fits_as_name(f"a{c}a") else "_" for c in text)[:60]
        plain = plain.strip(" .")
        if plain in made.values():
            plain = f"{plain[:50].strip(' .')} {number}"
        if register.fits_as_name(plain) and plain not in made.values():
            made[number] = plain
    return made


def title(number: int, name: str | None) -> str:
    """What a track is called."""
    return name or f"Person {number}"


# ------------------------------------------------------------------------------------ the files


def _read(out: Path) -> dict[str, Any]:
    return register.read(out, "people are numbered anew in each, so there is nothing to edit")


def _known(document: Mapping[str, Any], numbers: Sequence[int]) -> None:
    there = [person["id"] for person in document["people"]]
    if strange := sorted(set(numbers) - set(there)):
        raise IdentityError(
            f"there is no person {strange[0]}; there are {', '.join(map(str, there)) or 'none'}"
        )


def _times(out: Path, document: Mapping[str, Any]) -> tuple[list[int], Fraction]:
    """The exact times of all frames, and the ticks they count in."""
    return register.frame_times(out, document), Fraction(document["time_base"])


def _rewrite(
    out: Path, document: dict[str, Any], who: Callable[[int, int], int | None]
) -> None:
    """Both files anew, where `who` tells whose the sighting of a number in a frame is now."""
    pts, base = _times(out, document)
    owners: dict[int, dict[int, list[int]]] = {}  # new number -> frame -> old numbers
    for person in document["people"]:
        for index in person["present"]:
            new = who(person["id"], index)
            if new is not None:
                owners.setdefault(new, {}).setdefault(index, []).append(person["id"])
    old = {person["id"]: person for person in document["people"]}
    names = {number: old[number].get("name") for number in owners if number in old}
    document["people"] = [
        _person(number, owners[number], old, names.get(number), pts, base)
        for number in sorted(owners)
    ]
    if isinstance(document.get("alpha"), dict):
        document["alpha"]["tracks"] = sorted(owners)
    try:
        working = Path(tempfile.mkdtemp(prefix=".ids-", dir=out))
        try:
            _remux(out / ALPHA, working / ALPHA, owners, names, document, pts, base)
            with (working / PEOPLE).open("w", encoding="utf-8") as file:
                people = document.pop("people")
                head = json.dumps(document, indent=1)[:-2]
                lines = ",\n  ".join(json.dumps(person) for person in people)
                file.write(f'{head},\n "people": [\n  {lines}\n ]\n}}\n')
            for name in (ALPHA, PEOPLE):
                os.replace(working / name, out / name)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    except (OSError, av.error.FFmpegError) as error:
        if isinstance(error, InputError | OutputError):
            raise
        raise OutputError(f"{out}: the edited results cannot be written ({error})") from error


def _person(
    number: int, sources: Mapping[int, list[int]], old: Mapping[int, Any], name: str | None,
    pts: Sequence[int], base: Fraction,
) -> dict[str, Any]:  # fmt: skip
    places = {n: {index: i for i, index in enumerate(old[n]["present"])}
              for n in {n for them in sources.values() for n in them}}  # fmt: skip
    present = sorted(sources)
    boxes, scores = [], []
    for index in present:
        parts = [(old[n], places[n][index]) for n in sources[index]]
        corners = np.array([person["boxes"][i] for person, i in parts])
        boxes.append([*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()])
        scores.append(max(person["scores"][i] for person, i in parts))
    first, last = pts[present[0]], pts[present[-1]]
    return {
        "id": number,
        **({"name": name} if name else {}),
        "first_pts": first,
        "last_pts": last,
        "first_seconds": round(float(first * base), 6),
        "last_seconds": round(float(last * base), 6),
        "frames": len(present),
        "present": present,
        "boxes": boxes,
        "scores": scores,
    }


def _remux(
    source: Path, target: Path, owners: Mapping[int, Mapping[int, list[int]]],
    names: Mapping[int, str | None], document: Mapping[str, Any], pts: Sequence[int],
    base: Fraction,
) -> None:  # fmt: skip
    with (
        av.open(f"file:{source}") as old,
        av.open(f"file:{target}", "w", format="matroska") as new,
    ):
        template = old.streams.video[0]
        mixer = _Mixer(template, document)
        tracks = {}
        for number in sorted(owners) or [0]:
            stream = new.add_stream_from_template(template)
            stream.time_base = base
            stream.metadata["title"] = (
                title(number, names.get(number)) if number else "no one"
            )
            stream.metadata["PERSON_ID"] = str(number)
            tracks[number] = stream
        times = {"time_base": str(base), "pts": list(pts)}
        new.add_attachment("times.json", "application/json", json.dumps(times).encode())
        for index, packets in enumerate(_frames(old, source)):
            for number, stream in tracks.items():
                here = owners.get(number, {}).get(index, [])
                if not here:
                    data = mixer.blank
                elif len(here) == 1:
                    data = packets[here[0]]
                else:
                    data = mixer.mixed([packets[n] for n in here])
                packet = av.Packet(data)
                packet.is_keyframe = True
                packet.pts = packet.dts = pts[index]
                packet.time_base = base
                packet.stream = stream
                new.mux(packet)


def _frames(file: av.container.InputContainer, path: Path) -> Iterator[dict[int, bytes]]:
    """Every frame: the packet of each number's track."""
    numbers = {s.index: int(s.metadata.get("PERSON_ID", 0)) for s in file.streams.video}
    waiting: dict[int, list[bytes]] = {number: [] for number in numbers.values()}
    for packet in file.demux(*file.streams.video):
        if not packet.size:
            continue
        waiting[numbers[packet.stream.index]].append(bytes(packet))
        while all(waiting.values()):
            yield {number: packets.pop(0) for number, packets in waiting.items()}
    if any(waiting.values()):
        raise InputError(f"{path}: its tracks are not equally long")


class _Mixer:
    """Packets as the tracks of one file have them: blank ones, and sums of several people's."""

    def __init__(self, template: av.VideoStream, document: Mapping[str, Any]) -> None:
        height, width = document["size"]
        rate = Fraction(document["rate"]) if document.get("rate") else None
        self._coder = AlphaCoder((height, width), rate)
        self._decoder = av.CodecContext.create("h264", "r")
        self._decoder.extradata = template.codec_context.extradata
        self._decoder.thread_count = 1
        self.blank = with_lengths(self._coder.blank)
        try:
            fits = not self._decoded(self.blank).any()
        except (av.error.FFmpegError, ValueError):  # it names parameters that are not there
            fits = False
        if not fits:
            raise InputError("alpha.mkv was written by another version of the encoder")

    def _decoded(self, packet: bytes) -> np.ndarray:
        (picture,) = self._decoder.decode(av.Packet(packet))
        plane = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : plane.width].copy()

    def mixed(self, packets: Sequence[bytes]) -> bytes:
        total = sum(self._decoded(packet).astype(np.uint16) for packet in packets)
        return with_lengths(self._coder.coded(np.minimum(total, 255).astype(np.uint8)))


def with_lengths(packet: bytes) -> bytes:
    """H.264 units behind start codes (ITU-T H.264, annex B) as Matroska has them: behind their
    lengths, four bytes each (ISO/IEC 14496-15)."""
    units = [unit.rstrip(b"\0") for unit in packet.split(b"\0\0\1")]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units if unit)
