"""Gives every person a number and keeps it: through crossings, gaps, exits and returns.

Each frame's mattes are compared with the people known so far, and paired one to one.  Motion
decides wherever only one pairing is possible; where people overlap, the overlap of their mattes and
the likeness of their latent codes join in.  Confident detections are paired first, then weak ones,
which may keep someone alive but bring nobody into being (two stages as in Zhang et al., "ByteTrack:
multi-object tracking by associating every detection box", ECCV 2022).

A life: *tentative* (seen, not yet believed; carries a negative handle) -> *confirmed* after
`confirm_hits` sightings, when the next free number is given and `resolved` tells whose the earlier
frames were -> *missing* (no size change, code kept) -> back by motion within `coast_seconds`, or by
code within `memory_seconds`, or forgotten.  One-frame ghosts stay tentative, and cost no number.

Where the film is cut, places say nothing: everyone is recognised by code alone, or is someone new.
A person with a name (`enrol`, `pin`) is never forgotten, and what a pin says is not doubted.

The tracker never alters a matte, and keeps no clock: time is the `seconds` it is told.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from matting.frames import UNTRACKED, Mattes
from tracking.motion import Motion, centres_and_sizes, moved_boxes
from tracking.prelude import Prelude
from tracking.recognition import LEARNING_RATE, Agreement, Album, Gallery, blended, cosines
from tracking.scenery import Change, Scenery
from tracking.similarity import (
    box_and_height_overlap,
    box_overlap,
    matte_overlap,
    shifted,
    thumbnails,
    unit,
)

REMEMBERED_HANDLES = 10_000  # `resolved` keeps this many, so that a camera can run for days
RETURN_AGREEMENT = 0.6  # how alike a code must be to bring someone back; 1 is "the same"
RETURN_MARGIN = 0.25  # and how much more alike than anyone else's
STRANGER_AGREEMENT = 0.4  # below this, motion alone does not bring someone back
NOBODY_AGREEMENT = 0.1  # and below this, not even from one frame to the next
LIKELY = 0.45  # and from here on it is worth to wait for more of whoever has just come,
PERHAPS = 0.2  # or from here on, while the side of the picture cuts them,
COMING_SECONDS = 1.0  # but not longer than this; meanwhile they are shown under no number
EDGE = 0.01  # of the picture's width: whoever is so near its side is cut by it
HALF_SEEN = 0.5  # how fast a code is replaced while its person walks in
FULL_AGREEMENT = 0.3  # the same two where nobody new may come: whoever it is, it is someone known
FULL_MARGIN = 0.05
STRIDE = 3.0  # own heights somebody may move in a second where their code says it is them
STRIDE_SECONDS = 0.5  # and for so long after they were seen; then their reach grows no more
ENOUGH_TRUST = 0.5  # codes below this trust bring no one back, and stop no one
STAYED = 0.8  # how much the place someone was last seen at counts beside where they were heading
TWIN_BOXES = 0.5  # box overlap two mattes need to be worth comparing
DOUBTED_SCORE = 0.5  # from here on a detection is likelier somebody than nobody
MOMENT_SECONDS = 0.2  # a weak detection keeps alive whoever was seen so long ago at most
LONELY = 0.2  # box overlap with others below which a code is taken as this person's alone
LEARN_FRAMES = 4  # every so many frames the meaning of cosines is learnt: they change slowly
ALBUM_FRAMES = 8  # every so many frames a person is looked at for something new
STATE_VERSION = 2


@dataclass(frozen=True)
class TrackerSettings:
    """What the tracker believes, and for how long.  Overlaps, scores and weights lie in [0, 1]."""

    confident_score: float = 0.6  # a detection from here on is believed at once
    birth_score: float = 0.7  # and from here on may be someone new
    weak_score: float = 0.1  # below this a detection is ignored
    min_overlap: float = 0.1  # box * height overlap * score under which a pairing is no option
    min_matte_overlap: float = 0.2  # the same for mattes; one of the two is enough
    min_weak_overlap: float = 0.5  # box or matte overlap a weak detection needs
    min_birth_overlap: float = (
        0.3  # box or matte overlap the next sightings of someone tentative need
    )
    duplicate_overlap: float = 0.7  # two mattes of a frame that overlap this much are one person
    matte_weight: float = 0.3  # share of mattes where motion leaves a choice
    code_weight: float = 0.4  # share of codes there, where they can be trusted
    confirm_hits: int = 5  # sightings until someone is believed
    confirm_frames: int = 8  # within how many frames; more allows slips, and delays the output
    coast_seconds: float = 2.0  # how long someone missing may come back by motion
    memory_seconds: float = 60.0  # how long by their code
    max_remembered: int = 200  # how many people are remembered by code
    max_people: int | None = None  # how many people there are, where that is known

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "max_people":
                continue
            if field.name.startswith(("confirm_", "max_")):
                if type(value) is not int or value < 1:
                    raise ValueError(f"{field.name} should be a whole number from 1, got {value!r}")
            elif not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} should be a number from 0, got {value!r}")
            elif not field.name.endswith("_seconds") and value > 1:
                raise ValueError(f"{field.name} should lie between 0 and 1, got {value!r}")
        if not self.weak_score <= self.confident_score <= self.birth_score:
            raise ValueError(
                "weak_score, confident_score and birth_score should not fall, got "
                f"{self.weak_score}, {self.confident_score}, {self.birth_score}"
            )
        if self.confirm_frames < self.confirm_hits:
            raise ValueError(
                f"confirm_frames ({self.confirm_frames}) should be at least "
                f"confirm_hits ({self.confirm_hits})"
            )
        if self.matte_weight + self.code_weight > 1:
            raise ValueError(
                "matte_weight and code_weight should not exceed 1 together, got "
                f"{self.matte_weight} and {self.code_weight}"
            )


@dataclass(frozen=True)
class Pin:
    """A person who was pointed at: in the first frame from `seconds` on, whoever is at `point`."""

    name: str
    seconds: float
    point: tuple[float, float]  # x, y in pixels of the picture


class Tracker:
    """Follows the people of one video.  One tracker per video: numbers and memory are its own.

    Deterministic: the same mattes at the same times give the same numbers, to the bit.  Works with
    boxes and scores alone, when mattes come as (N, 1, 1) and codes with no width.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.resolved: dict[int, int] = {}  # tentative handle -> the number it was given later
        # how many frames to hold back so that a confirmation can still name all earlier ones
        self.delay_frames = self.settings.confirm_frames - 1
        self._known: _Known | None = None  # nobody yet: array widths are learnt from the first
        self._gallery = Gallery(self.settings.max_remembered)
        self._agreement = Agreement()
        self._album = Album()
        self._scenery = Scenery()
        self.names: dict[int, str] = {}  # of the people who have one
        self.missed_pins: list[Pin] = []  # that met nobody
        self._profiles: dict[str, np.ndarray] = {}  # (k, D) of the enrolled who were not seen yet
        self._pins: list[Pin] = []  # still to come, by time
        self._frame = -1
        self._seconds: float | None = None
        self._clock = 0.0  # what is added to the times told, since the source began anew
        self._restarted = False
        self._next_id = 1
        self._next_handle = UNTRACKED - 1
        self._prelude = Prelude(self.delay_frames + 1)

    def update(
        self,
        mattes: Mattes,
        seconds: float,
        camera: np.ndarray | None = None,
        rgb: np.ndarray | None = None,
        change: Change | None = None,
    ) -> np.ndarray:
        """(N,) int64: the number of everyone in the frame at this time.

        A number from 1 is a person.  Below UNTRACKED it is a tentative handle: look it up in
        `resolved` after `delay_frames` more frames, and drop who is not there.  UNTRACKED itself
        is to be dropped at once: a duplicate, or too weak to be anyone.

        `rgb` (H, W, 3) uint8, the picture, shows cuts and the camera's motion.  `camera` (2, 3),
        where it is known better, is the affine motion of the background from the previous frame to
        this one, in pixels.  `change` is what a `Scenery` has said already, instead of `rgb`.  The
        `ids` of the mattes are ignored.
        """
        elapsed, restarted = self._advance(seconds)
        if rgb is not None and change is None:
            change = self._scenery.change(rgb, mattes.coarse, elapsed)
        change = change or Change(restarted, restarted, None)
        camera = change.camera if camera is None else _affine(camera)
        seen = self._look(mattes)
        names = np.full(len(mattes), UNTRACKED, np.int64)
        known = self._known
        if known is None:
            if not len(seen):
                return names
            known = self._known = _Known.nobody(seen)
        if change.cut or restarted or elapsed > self.settings.coast_seconds:
            known = self._known = self._part(known)
            self._prelude.clear()
        known.motion.predict(elapsed, resting=known.seen < self._frame - 1)
        if camera is not None:
            known.motion.move_with(camera)
            known.box = moved_boxes(known.box, camera)

        pairs = self._pair(known, seen, change.doubtful)
        back = pairs.rows[(known.id[pairs.rows] > 0) & (known.seen[pairs.rows] < self._frame - 1)]
        returned = [_Begun(self._frame, number, number) for number in known.id[back].tolist()]
        self._observe(known, seen, pairs)
        known = self._known = self._meet(known, seen, unpaired=pairs.detections_left())
        begun = self._confirm(known, seen.size[1])
        self._obey_pins(known, seen, mattes)
        self._known = known = self._forget(known)

        present = known.seen == self._frame
        rows = seen.rows[known.detection[present]]
        names[rows] = np.where(known.id[present] > 0, known.id[present], known.handle[present])
        self._look_back(names, seen, returned + begun)
        return names

    def _look_back(self, names: np.ndarray, seen: _Seen, begun: list[_Begun]) -> None:
        """Detections that are nobody's get a handle each, in place: they may be of somebody who is
        believed soon after.  Who has `begun` is given what was seen of them just before."""
        left = names[seen.rows] == UNTRACKED
        names[seen.rows[left]] = [self._new_handle() for _ in range(int(left.sum()))]
        self._prelude.add(self._frame, names[seen.rows], left, seen.box, seen.coarse)
        for person in begun:
            for handle in self._prelude.before(
                person.born, person.named, person.id, self.settings.min_weak_overlap
            ):
                self._resolve(handle, person.id)

    def enrol(self, name: str, codes: np.ndarray) -> None:
        """Someone is known by name before they are seen: codes (k, D) of them, the best first.

        Their number is given, as everyone's, when they appear.
        """
        codes = unit(np.atleast_2d(np.asarray(codes, np.float64)))
        if not np.isfinite(codes).all() or not codes.any(1).all():
            raise ValueError(f"the codes of {name} should be finite and not zero")
        if name in self.names.values():
            raise ValueError(f"{name} is in the picture already")
        self._profiles[name] = codes

    def pin(self, pins: Iterable[Pin]) -> None:
        """People who were pointed at.  From that frame on they are who the pin says, and nobody
        else is; what was told of earlier frames is not changed."""
        self._pins = sorted([*self._pins, *pins], key=lambda pin: pin.seconds)

    def restart(self) -> None:
        """The source begins anew, with a clock of its own: a camera that was plugged in again.
        Whoever is there after it is recognised by code."""
        self._restarted = True

    def save(self) -> bytes:
        """Everything the tracker knows, for `restore`: a run goes on as if never interrupted."""
        arrays: dict[str, np.ndarray] = {}
        if self._known is not None:
            for field in fields(_Known)[1:]:
                arrays[f"known.{field.name}"] = getattr(self._known, field.name)
            for field in fields(Motion):
                arrays[f"motion.{field.name}"] = getattr(self._known.motion, field.name)
        for identity, codes in self._gallery.people():
            arrays[f"gallery.{identity}"] = codes
        for identity, codes in self._album.people():
            arrays[f"album.{identity}"] = codes
        for name, codes in self._profiles.items():
            arrays[f"profile.{name}"] = codes
        told = {
            "version": STATE_VERSION,
            "resolved": list(self.resolved.items()),
            "names": list(self.names.items()),
            "pins": [[pin.name, pin.seconds, list(pin.point)] for pin in self._pins],
            "left": self._gallery.left(),
            "agreement": self._agreement.state(),
            "numbers": [self._frame, self._next_id, self._next_handle],
            "times": [self._seconds, self._clock, self._restarted],
            "scenery": self._scenery.state(arrays),
            "prelude": self._prelude.state(arrays),
        }
        arrays["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        kept = io.BytesIO()
        np.savez(kept, **arrays)  # type: ignore[arg-type]  # NumPy's stub forgets the names
        return kept.getvalue()

    def restore(self, state: bytes) -> None:
        """Go on where the tracker that was saved as `state` stood.  Raises ValueError for a state
        of another version."""
        with np.load(io.BytesIO(state), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        told = json.loads(arrays.pop("told").tobytes())
        if told.get("version") != STATE_VERSION:
            raise ValueError(f"a tracker's state of version {told.get('version')} cannot be read")

        def group(kind: str) -> dict[str, np.ndarray]:
            begin = f"{kind}."
            return {k[len(begin) :]: v for k, v in arrays.items() if k.startswith(begin)}

        motion = group("motion")
        self._known = _Known(Motion(**motion), **group("known")) if motion else None
        self._gallery = Gallery(self.settings.max_remembered)
        galleries = group("gallery")
        for identity, left in told["left"]:
            self._gallery.add(identity, galleries[str(identity)], left)
        self._album = Album()
        for number, codes in group("album").items():
            self._album.give(int(number), codes)
        self._profiles = group("profile")
        self.resolved = {int(handle): int(identity) for handle, identity in told["resolved"]}
        self.names = {int(identity): name for identity, name in told["names"]}
        self._gallery.kept.update(self.names)
        self._pins = [Pin(name, when, tuple(point)) for name, when, point in told["pins"]]
        self._agreement = Agreement()
        self._agreement.restore(told["agreement"])
        self._frame, self._next_id, self._next_handle = told["numbers"]
        self._seconds, self._clock, self._restarted = told["times"]
        self._scenery = Scenery()
        self._scenery.restore(told["scenery"], group("scenery"))
        self._prelude = Prelude(self.delay_frames + 1)
        self._prelude.restore(told["prelude"], group("prelude"))

    def agreement_of(self, cosine: np.ndarray) -> np.ndarray:
        """What cosines of codes mean, after what was seen: 0 a stranger, 1 the same person."""
        return self._agreement.of(cosine)

    def known_codes(self) -> dict[str, np.ndarray]:
        """Codes (k, D) of everyone with a name, to `enrol` them again in another video."""
        found = dict(self._profiles)
        if (known := self._known) is not None:
            for row, identity in enumerate(known.id.tolist()):
                if identity in self.names:
                    codes = self._album.open(identity, known.code[row])
                    found[self.names[identity]] = codes
        for identity, codes in self._gallery.people():
            if identity in self.names:
                found[self.names[identity]] = codes
        return found

    def finish(self) -> None:
        """The video has ended.  In one too short to confirm anybody, whoever stayed is believed."""
        known = self._known
        if known is None or self._frame + 1 >= self.settings.confirm_hits:
            return
        stayed = (known.id == 0) & (known.seen == self._frame) & (known.born == 0)
        for row in known.by_appearance(np.flatnonzero(stayed)):
            self._name(known, int(row), self._new_id())

    # -- one frame, step by step ------------------------------------------------------------------

    def _advance(self, told: float) -> tuple[float, bool]:
        """Seconds since the frame before, and whether the source has begun anew."""
        if not np.isfinite(told):
            raise ValueError(f"seconds should be a time, got {told}")
        restarted, self._restarted = self._restarted, False
        if restarted and self._seconds is not None:
            self._clock = self._seconds - float(told)
        seconds = float(told) + self._clock
        elapsed = 0.0 if self._seconds is None else seconds - self._seconds
        if elapsed < 0:
            raise ValueError(
                f"time ran backwards from {self._seconds} to {seconds} seconds: "
                "give frames in presentation order, and each video a tracker of its own"
            )
        self._seconds = seconds
        self._frame += 1
        return elapsed, restarted

    def _part(self, known: _Known) -> _Known:
        """Another shot, or a long time without pictures: only codes say who is who now."""
        for row in np.flatnonzero(known.id > 0).tolist():
            self._leave(known, row)
        return known.take(np.zeros(0, np.int64))

    def _leave(self, known: _Known, row: int) -> None:
        """This person is remembered by code from now on."""
        identity = int(known.id[row])
        if known.code.shape[1]:
            codes = self._album.open(identity, known.code[row])
            self._gallery.add(identity, codes, float(known.seen_seconds[row]))
        self._album.close(identity)

    def _look(self, mattes: Mattes) -> _Seen:
        """The detections worth a thought: strong enough, somewhere, and each person once."""
        box = mattes.box.astype(np.float64)
        score = mattes.score.astype(np.float64)
        code = mattes.code.astype(np.float64)
        if not np.isfinite(box.sum() + score.sum() + code.sum()):
            for name, values in (("box", box), ("score", score), ("code", code)):
                if not np.isfinite(values).all():
                    raise ValueError(f"{name} should be finite numbers, got {values}")
        known = self._known
        if len(mattes) and known is not None and code.shape[1] != known.code.shape[1]:
            raise ValueError(
                f"codes were {known.code.shape[1]} wide and are now {code.shape[1]}: "
                "one tracker follows the output of one network"
            )
        keep = (score >= self.settings.weak_score) & (box[:, 2:] > box[:, :2]).all(1)
        coarse = thumbnails(mattes.coarse)
        crowd = box_overlap(box, box)
        crowd.flat[:: len(box) + 1] = 0  # nobody crowds themself
        near = ((crowd > TWIN_BOXES).any(1) & keep).nonzero()[0]
        if len(near) and coarse.shape[1:] != (1, 1):
            near = near[np.argsort(-score[near], kind="stable")]  # the better of two is kept
            twins = matte_overlap(coarse[near], coarse[near])
            twins = np.triu(twins > self.settings.duplicate_overlap, 1)
            for rank, row in enumerate(near.tolist()):
                if keep[row]:
                    keep[near[twins[rank]]] = False
        if keep.all():  # the common case copies no mattes
            rows = np.arange(len(keep))
        else:
            rows = np.flatnonzero(keep)
            box, score, code, coarse = box[rows], score[rows], code[rows], coarse[rows]
            crowd = crowd[np.ix_(rows, rows)]
        return _Seen(
            rows=rows,
            box=box,
            score=score,
            coarse=coarse,
            code=unit(code),
            alone=crowd.max(1, initial=0) < LONELY,
            size=mattes.size,
        )

    def _pair(self, known: _Known, seen: _Seen, doubtful: bool) -> _Pairs:
        """Who is who: confirmed people first, then the weak detections, then the tentative.

        Where the film may have jumped (`doubtful`), a place is believed only if the code agrees."""
        wanted = self.settings
        pairs = _Pairs(len(known), len(seen))
        if not len(known) or not len(seen):
            return pairs
        expected = known.motion.boxes()
        missing = known.seen < self._frame - 1
        overlap, height = box_and_height_overlap(expected, seen.box)
        shape = overlap * height
        if missing.any():  # they may also have stayed where they were last seen
            stayed, height = box_and_height_overlap(known.box[missing], seen.box)
            shape[missing] = np.maximum(shape[missing], STAYED * (stayed * height))
        likeness = shape * seen.score
        cosine, agreement, trust = self._code_agreement(known, seen)

        # stage 1: believed people and confident detections.  Two that are each other's only option
        # are left to motion; elsewhere mattes and codes have a say
        confirmed = known.id > 0
        confident = seen.score >= wanted.confident_score
        allowed = confirmed[:, None] & confident
        if trust >= ENOUGH_TRUST:
            stranger = np.where(missing | doubtful, STRANGER_AGREEMENT, NOBODY_AGREEMENT)
            unlike = agreement < np.where(seen.alone | doubtful, 1.0, 0.5) * stranger[:, None]
            if not doubtful:  # what is left of someone behind others may look like nobody at all
                unlike &= seen.alone | (agreement < agreement.max(0) - RETURN_MARGIN)
            allowed &= ~unlike
        option = allowed & (likeness > wanted.min_overlap)
        clear = option & (option.sum(1) == 1)[:, None] & (option.sum(0) == 1)
        rows = (confirmed & ~clear.any(1)).nonzero()[0]
        columns = (confident & ~clear.any(0)).nonzero()[0]
        score = likeness.copy()
        if len(rows) and len(columns):
            open_ = np.ix_(rows, columns)
            matte = self._matte_overlap(known, seen, rows, columns)
            evidence, motion_weight = np.zeros((len(rows), len(columns))), 1.0
            if matte is not None:
                option[open_] |= allowed[open_] & (matte > wanted.min_matte_overlap)
                evidence += wanted.matte_weight * matte
                motion_weight -= wanted.matte_weight
            if trust > 0:
                evidence += wanted.code_weight * trust * agreement[open_]
                motion_weight -= wanted.code_weight * trust
            score[open_] = evidence + motion_weight * likeness[open_]
        pairs.settle(score, option)
        if seen.code.shape[1] and self._frame % LEARN_FRAMES == 0:
            self._learn(seen, pairs, cosine, clear)

        # who is left moved in another way than foreseen: they stopped at once, or are so fast that
        # they left their box behind from one frame to the next, and only their code says it is them
        left = pairs.still_open(allowed)
        if left.any():
            stopped = box_overlap(known.box, seen.box) * seen.score
            pairs.settle(stopped, left & (stopped > wanted.min_weak_overlap))
            if trust >= ENOUGH_TRUST:
                fast = pairs.still_open(left & (agreement >= RETURN_AGREEMENT))
                pairs.settle(agreement, self._strides(known, seen, agreement, fast))

        # stage 2: weak detections keep alive whom we saw a moment ago; someone missing needs a code
        if not confident.all():
            since = (self._seconds or 0.0) - known.seen_seconds
            recent = ~missing | (since <= MOMENT_SECONDS)
            allowed = confirmed[:, None] & ~confident & recent[:, None]
            if trust >= ENOUGH_TRUST:
                allowed |= confirmed[:, None] & ~confident & (agreement > RETURN_AGREEMENT)
            same = self._best_overlap(known, seen, overlap, pairs.still_open(allowed))
            pairs.settle(same, allowed & (same > wanted.min_weak_overlap))

        # a doubted detection is nobody new: it is whom we miss and who is most like it
        doubted = (seen.score >= DOUBTED_SCORE) & (seen.score < wanted.birth_score)
        if trust >= ENOUGH_TRUST and missing.any() and doubted.any():
            allowed = (confirmed & missing)[:, None] & doubted & (agreement >= FULL_AGREEMENT)
            near = self._strides(known, seen, agreement, allowed, half_hidden=True)
            pairs.settle(agreement, near)

        # stage 3: what confident detections are left may be someone still tentative
        if not confirmed.all():
            allowed = ~confirmed[:, None] & confident
            same = self._best_overlap(known, seen, overlap, pairs.still_open(allowed))
            same *= seen.score
            option = allowed & (same > wanted.min_birth_overlap)
            if trust >= ENOUGH_TRUST:
                crowded = np.where(seen.alone, 1.0, 0.5)
                option &= agreement >= NOBODY_AGREEMENT * crowded
                fast = pairs.still_open(allowed & (agreement >= STRANGER_AGREEMENT))
                option |= self._strides(known, seen, agreement, fast)
                same += agreement
            pairs.settle(same, option)
        return pairs

    def _strides(
        self, known: _Known, seen: _Seen, agreement: np.ndarray, where: np.ndarray,
        half_hidden: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """(n, m) bool, of the pairings `where`: nobody else is as like, and they were seen a moment
        ago and could be there by now.  What shows of people who are `half_hidden` is
        now on one side of whoever hides them and now on the other, and less tall than they are."""
        if not where.any():
            return where
        fast = where & (agreement >= agreement.max(0))
        rows = np.flatnonzero(fast.any(1))
        since = (self._seconds or 0.0) - known.seen_seconds[rows]
        last, now = centres_and_sizes(known.box[rows]), centres_and_sizes(seen.box)
        away = np.hypot(now[:, 0] - last[:, :1], now[:, 1] - last[:, 1:2])
        within, walked, tall = STRIDE_SECONDS, since[:, None], last[:, 3:4]
        if half_hidden:
            within, walked = self.settings.coast_seconds, np.array(STRIDE_SECONDS)
            tall = np.maximum(tall, now[:, 3])
        fast[rows] &= (away <= STRIDE * walked * tall) & (since <= within)[:, None]
        return fast

    def _best_overlap(
        self, known: _Known, seen: _Seen, overlap: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        """(n, m) overlap of boxes or of mattes, whichever is greater; mattes only `where` needed.

        A matte with a stray speck has a wild box, and is still the same matte.
        """
        best = overlap.copy()
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        matte = self._matte_overlap(known, seen, rows, columns) if len(rows) else None
        if matte is not None:
            open_ = np.ix_(rows, columns)
            best[open_] = np.maximum(best[open_], matte)
        return best

    def _matte_overlap(
        self, known: _Known, seen: _Seen, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray | None:
        """Overlap with the last mattes of these people, moved to where they should be by now."""
        grid = seen.coarse.shape[1:]
        if grid == (1, 1) or known.coarse.shape[1:] != grid:
            return None
        cell = np.array([seen.size[1] / grid[1], seen.size[0] / grid[0]])  # pixels, x and y
        moved = np.rint((known.motion.value[rows, :2] - known.drawn_at[rows]) / cell).astype(int)
        return matte_overlap(shifted(known.coarse[rows], moved), seen.coarse[columns])

    def _code_agreement(self, known: _Known, seen: _Seen) -> tuple[np.ndarray, np.ndarray, float]:
        """(n, m) cosines of codes, what they mean, and how far that can be trusted."""
        if seen.code.shape[1] == 0:
            nothing = np.zeros((len(known), len(seen)))
            return nothing, nothing, 0.0
        cosine = cosines(known.code, seen.code, self._everyone(known))
        return cosine, self._agreement.of(cosine), self._agreement.trust

    def _everyone(self, known: _Known) -> np.ndarray:
        """(n, D) the codes of everyone believed, in view or remembered."""
        return np.concatenate([known.code[known.id > 0], self._gallery.mains(known.code.shape[1])])

    def _learn(self, seen: _Seen, pairs: _Pairs, cosine: np.ndarray, clear: np.ndarray) -> None:
        """Clear pairs of people standing apart show what cosines mean."""
        rows, columns = pairs.rows, pairs.columns
        sure = clear[rows, columns] & seen.alone[columns]
        rows, columns = rows[sure], columns[sure]
        if len(rows) < 2:  # one person alone teaches nothing about strangers
            return
        table = cosine[np.ix_(rows, columns)]
        others = table + np.diag(np.full(len(rows), -np.inf))
        self._agreement.learn(same=np.diag(table), other=others.max(1))

    def _observe(self, known: _Known, seen: _Seen, pairs: _Pairs) -> None:
        rows, columns = pairs.rows, pairs.columns
        if not len(rows):
            return
        known.motion.observe(rows, seen.box[columns])
        known.box[rows] = seen.box[columns]
        known.drawn_at[rows] = centres_and_sizes(seen.box[columns])[:, :2]
        known.detection[rows] = columns
        known.seen[rows] = self._frame
        known.seen_seconds[rows] = self._seconds
        known.hits[rows] += 1
        if known.coarse.shape[1:] != seen.coarse.shape[1:]:  # the picture changed its size
            known.coarse = np.zeros((len(known), *seen.coarse.shape[1:]), np.float32)
        known.coarse[rows] = seen.coarse[columns]
        if seen.code.shape[1]:
            # a code seen in a crowd, or on a weak detection, is partly someone else's
            alone = seen.alone & (seen.score >= self.settings.confident_score)
            rate = np.maximum(1 / known.hits[rows], LEARNING_RATE)
            tentative = known.id[rows] == 0
            rate[~(alone[columns] | tentative)] = 0.0
            if tentative.any():
                left, right = seen.box[columns, 0], seen.box[columns, 2]
                coming = (left < EDGE * seen.size[1]) | (right > (1 - EDGE) * seen.size[1])
                coming |= known.hits[rows] > self.settings.confirm_hits  # and nobody knows yet who
                rate = np.where(coming & tentative, np.maximum(rate, HALF_SEEN), rate)
            known.code[rows] = blended(known.code[rows], seen.code[columns], rate)
            new = alone[columns] & ~tentative
            new &= (self._frame - known.born[rows]) % ALBUM_FRAMES == 0
            for row, column in zip(rows[new].tolist(), columns[new].tolist(), strict=True):
                self._album.consider(int(known.id[row]), seen.code[column])

    def _meet(self, known: _Known, seen: _Seen, unpaired: np.ndarray) -> _Known:
        """Confident detections that are nobody's may be someone new."""
        new = unpaired[seen.score[unpaired] >= self.settings.birth_score]
        if not len(new):
            return known
        handles = np.array([self._new_handle() for _ in new], np.int64)
        return known.joined(seen, new, handles, self._frame, self._seconds or 0.0)

    def _confirm(self, known: _Known, width: int) -> list[_Begun]:
        """Give numbers to the tentative who were seen often enough: their own if they return."""
        ready = (known.id == 0) & (known.hits >= self.settings.confirm_hits)
        if not ready.any():
            return []
        rows = known.by_appearance(np.flatnonzero(ready))
        returned, likeness = self._recalled(known, rows)
        begun = []
        for row in rows.tolist():
            if row in returned:
                self._name(known, row, self._welcome(known, row, *returned[row]))
            elif self._may_tell_more(known, row, likeness.get(row, 0.0), width):
                continue
            elif not self._full():
                self._name(known, row, self._new_id())
            else:
                continue
            identity, born = int(known.id[row]), int(known.born[row])
            named = identity if born == self._frame else int(known.handle[row])
            begun.append(_Begun(born, named, identity))
        return begun

    def _may_tell_more(self, known: _Known, row: int, likeness: float, width: int) -> bool:
        """Someone has come a moment ago and is a little like somebody who left: soon their code
        will say more, above all while they are cut by the side of the picture."""
        low, high = known.box[row, 0], known.box[row, 2]
        cut = low < EDGE * width or high > (1 - EDGE) * width
        since = (self._seconds or 0.0) - known.born_seconds[row]
        return since < COMING_SECONDS and likeness > (PERHAPS if cut else LIKELY)

    def _full(self) -> bool:
        most = self.settings.max_people
        return most is not None and self._next_id > most

    def _recalled(
        self, known: _Known, rows: np.ndarray
    ) -> tuple[dict[int, tuple[str, int | str]], dict[int, float]]:
        """Which of these rows are, by their codes, people we have missed, and whom: someone away
        (by row), in the gallery (by number) or enrolled (by name); and how much everyone of these
        rows is like the one they are most like."""
        width = known.code.shape[1]
        if width == 0 or self._agreement.trust < ENOUGH_TRUST:
            return {}, {}
        # nobody is in two places: only people who were away during the whole tentative life
        away = np.flatnonzero((known.id > 0) & (known.seen < known.born[rows].max()))
        who: list[tuple[str, int | str]] = [("away", row) for row in away.tolist()]
        looks = [self._album.open(int(known.id[row]), known.code[row]) for row in away.tolist()]
        for identity, codes in self._gallery.people():
            who.append(("gallery", identity))
            looks.append(codes)
        for name, codes in self._profiles.items() if not self._full() else ():
            if codes.shape[1] != width:
                raise ValueError(
                    f"{name} is enrolled with a code of {codes.shape[1]} numbers, and the codes of "
                    f"these mattes have {width}: enrol them with the same network"
                )
            who.append(("profile", name))
            looks.append(codes)
        if not who:
            return {}, {}
        cosine = cosines(np.concatenate(looks), known.code[rows], self._everyone(known))
        first = np.cumsum([0, *(len(codes) for codes in looks[:-1])])
        agreement = np.maximum.reduceat(self._agreement.of(cosine), first)  # (candidates, rows)
        agreement[: len(away)] *= known.seen[away][:, None] < known.born[rows]
        need, margin = RETURN_AGREEMENT, RETURN_MARGIN
        if self._full():
            need, margin = FULL_AGREEMENT, FULL_MARGIN
        mine, theirs = linear_sum_assignment(agreement, maximize=True)
        settled = np.zeros(len(agreement))
        settled[mine] = agreement[mine, theirs]
        found = {}
        for candidate, column in zip(mine.tolist(), theirs.tolist(), strict=True):
            best = agreement[candidate, column]
            # somebody who more likely is another one of those who came is no rival
            rivals = agreement[:, column] * (settled < agreement[:, column] + margin / 2)
            rivals[candidate] = 0
            if best >= need and best - rivals.max() >= margin:
                found[int(rows[column])] = who[candidate]
        return found, dict(zip(rows.tolist(), agreement.max(0).tolist(), strict=True))

    def _welcome(self, known: _Known, row: int, where: str, key: int | str) -> int:
        """The number of someone whose row this is from now on, and what was known of them."""
        if where == "away":
            identity, code = int(known.id[key]), known.code[key]
            known.id[key] = _GONE
        elif where == "gallery":
            identity = int(key)
            code = self._fetched(identity)
        else:
            identity = self._new_id()
            code = self._call(identity, str(key))
        if code is not None:
            known.code[row] = unit((code + known.code[row])[None])[0]
        return identity

    def _fetched(self, identity: int) -> np.ndarray:
        """Someone comes back from the gallery; their usual code (D,)."""
        codes = self._gallery.take(identity)
        if len(codes) > 1:
            self._album.give(identity, codes[1:])
        return codes[0]

    def _call(self, identity: int, name: str) -> np.ndarray | None:
        """This person has a name, and is never forgotten; the code (D,) they were enrolled with."""
        self.names[identity] = name
        self._gallery.kept.add(identity)
        codes = self._profiles.pop(name, None)
        if codes is None:
            return None
        self._album.give(identity, codes)
        return codes[0]

    def _obey_pins(self, known: _Known, seen: _Seen, mattes: Mattes) -> None:
        now = self._seconds or 0.0
        while self._pins and self._pins[0].seconds <= now + 1e-6:
            pin = self._pins.pop(0)
            column = _pointed_at(pin.point, seen, mattes)
            rows = (known.seen == self._frame) & (known.detection == column)
            if column is None or not rows.any():
                self.missed_pins.append(pin)
            else:
                self._obey(known, int(np.flatnonzero(rows)[0]), pin.name)

    def _obey(self, known: _Known, row: int, name: str) -> None:
        """This row is `name`, whatever was believed."""
        mine = int(known.id[row])
        theirs = next((i for i, known_as in self.names.items() if known_as == name), None)
        if theirs == mine:
            return
        if theirs is None and mine > 0 and mine not in self.names:
            self._call(mine, name)
            return
        if mine > 0:
            if mine in self.names:  # somebody else's number: they are not here
                self._leave(known, row)
            else:
                self._album.close(mine)
            # numbers already told stay; whoever reads along sees the change from here on
            known.handle[row] = self._new_handle()
        if theirs is None:
            theirs = self._new_id()
            self._call(theirs, name)
        elif theirs in self._gallery.ids:
            known.code[row] = unit((self._fetched(theirs) + known.code[row])[None])[0]
        for other in np.flatnonzero(known.id == theirs).tolist():
            if known.seen[other] >= known.born[row]:
                # both were there: what was told of this row until now is not theirs
                known.handle[row] = self._new_handle()
            if known.seen[other] == self._frame:
                known.id[other], known.hits[other] = 0, 1  # someone else, to be believed anew
                known.handle[other], known.born[other] = self._new_handle(), self._frame
            else:
                known.id[other] = _GONE
        self._name(known, row, theirs)

    def _new_handle(self) -> int:
        self._next_handle -= 1
        return self._next_handle + 1

    def _name(self, known: _Known, row: int, identity: int) -> None:
        known.id[row] = identity
        self._resolve(int(known.handle[row]), identity)

    def _resolve(self, handle: int, identity: int) -> None:
        self.resolved[handle] = identity
        if len(self.resolved) > REMEMBERED_HANDLES:
            del self.resolved[next(iter(self.resolved))]

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _forget(self, known: _Known) -> _Known:
        """Let go of ghosts and of the long missing; the missing are remembered by their code."""
        wanted, now = self.settings, self._seconds or 0.0
        stays = known.id != _GONE
        tentative = known.id == 0
        if tentative.any():
            frames_left = known.born + wanted.confirm_frames - 1 - self._frame
            stays &= ~tentative | (
                (known.hits + frames_left >= wanted.confirm_hits)
                & (known.seen >= self._frame - wanted.confirm_frames)
            )
        long_gone = (known.id > 0) & (now - known.seen_seconds > wanted.coast_seconds)
        for row in long_gone.nonzero()[0].tolist():
            self._leave(known, row)
        self._gallery.forget_before(now - wanted.memory_seconds)
        stays &= ~long_gone
        return known if stays.all() else known.take(np.flatnonzero(stays))


_GONE = -1  # the id of a row whose number has moved to another row


class _Begun(NamedTuple):
    """Somebody who is believed from now on, or is back."""

    born: int  # frame in which they were seen first
    named: int  # what they were named there
    id: int


@dataclass(eq=False)
class _Seen:
    """The detections of one frame worth a thought."""

    rows: np.ndarray  # (m,) their rows in the frame's mattes
    box: np.ndarray  # (m, 4) float64 xyxy
    score: np.ndarray  # (m,) float64
    coarse: np.ndarray  # (m, h, w) float32 thumbnails
    code: np.ndarray  # (m, D) float64 of length 1
    alone: np.ndarray  # (m,) bool, whether they stand apart from everyone else
    size: tuple[int, int]  # (H, W) of the picture

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(eq=False)
class _Known:
    """Everyone believed or tentative, row by row."""

    motion: Motion
    id: np.ndarray  # (n,) int64, 0 while tentative
    handle: np.ndarray  # (n,) int64, negative
    born: np.ndarray  # (n,) int64, frame of the first sighting
    born_seconds: np.ndarray  # (n,) float64
    seen: np.ndarray  # (n,) int64, frame of the last
    seen_seconds: np.ndarray  # (n,) float64
    hits: np.ndarray  # (n,) int64, sightings
    detection: np.ndarray  # (n,) int64, index of the detection last paired with
    first_x: np.ndarray  # (n,) float64, left edge at birth: numbers run from left to right
    box: np.ndarray  # (n, 4) float64, as last seen; moved with the camera since
    drawn_at: np.ndarray  # (n, 2) float64, its centre in the picture `coarse` was drawn in
    coarse: np.ndarray  # (n, h, w) float32 thumbnails, as last seen
    code: np.ndarray  # (n, D) float64 of length 1, as usually seen

    @classmethod
    def nobody(cls, like: _Seen) -> _Known:
        none = np.zeros(0, np.int64)
        return cls(
            Motion.at(np.zeros((0, 4))),
            *(none,) * 3, np.zeros(0), none, np.zeros(0), none, none, np.zeros(0),
            np.zeros((0, 4)), np.zeros((0, 2)),
            like.coarse[:0], like.code[:0],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: np.ndarray) -> _Known:
        motion = self.motion.take(rows)
        return _Known(motion, *(getattr(self, field.name)[rows] for field in fields(self)[1:]))

    def joined(
        self, seen: _Seen, new: np.ndarray, handles: np.ndarray, frame: int, seconds: float
    ) -> _Known:
        count = len(new)
        coarse = self.coarse
        if coarse.shape[1:] != seen.coarse.shape[1:]:
            coarse = np.zeros((len(self), *seen.coarse.shape[1:]), np.float32)
        added = {
            "id": np.zeros(count, np.int64),
            "handle": handles,
            "born": np.full(count, frame),
            "born_seconds": np.full(count, seconds),
            "seen": np.full(count, frame),
            "seen_seconds": np.full(count, seconds),
            "hits": np.ones(count, np.int64),
            "detection": new,
            "first_x": seen.box[new, 0],
            "box": seen.box[new],
            "drawn_at": centres_and_sizes(seen.box[new])[:, :2],
            "code": seen.code[new],
        }
        return _Known(
            motion=self.motion.joined(Motion.at(seen.box[new])),
            coarse=np.concatenate([coarse, seen.coarse[new]]),
            **{name: np.concatenate([getattr(self, name), more]) for name, more in added.items()},
        )

    def by_appearance(self, rows: np.ndarray) -> np.ndarray:
        """These rows in the order their people appeared, from left to right at a tie."""
        return rows[np.lexsort((self.first_x[rows], self.born[rows]))]


class _Pairs:
    """The pairing of known people (rows) with detections (columns), as it grows stage by stage."""

    def __init__(self, known: int, seen: int) -> None:
        self.rows = np.zeros(0, np.int64)
        self.columns = np.zeros(0, np.int64)
        self._open_rows = np.ones(known, bool)
        self._open_columns = np.ones(seen, bool)

    def settle(self, score: np.ndarray, option: np.ndarray) -> None:
        """Pair whom earlier stages left, for the greatest total score over the allowed options."""
        option = self.still_open(option)
        if not option.any():
            return
        rows, columns = linear_sum_assignment(np.where(option, score, 0.0), maximize=True)
        kept = option[rows, columns]
        rows, columns = rows[kept], columns[kept]
        self.rows = np.concatenate([self.rows, rows])
        self.columns = np.concatenate([self.columns, columns])
        self._open_rows[rows] = False
        self._open_columns[columns] = False

    def still_open(self, option: np.ndarray) -> np.ndarray:
        """The options (n, m) that earlier stages have left."""
        return option & self._open_rows[:, None] & self._open_columns

    def detections_left(self) -> np.ndarray:
        return self._open_columns.nonzero()[0]


def _pointed_at(point: tuple[float, float], seen: _Seen, mattes: Mattes) -> int | None:
    """Which of the detections is at this point of the picture: by matte, or else by box."""
    x, y = point
    height, width = mattes.alpha.shape[1:]
    if not len(seen):
        return None
    if 0 <= y < height and 0 <= x < width and (height, width) != (1, 1):
        there = mattes.alpha[seen.rows, int(y), int(x)]
        if there.max() >= 0.5:
            return int(np.argmax(there))
    inside = (seen.box[:, 0] <= x) & (x <= seen.box[:, 2])
    inside &= (seen.box[:, 1] <= y) & (y <= seen.box[:, 3])
    if not inside.any():
        return None
    area = (seen.box[:, 2:] - seen.box[:, :2]).prod(1)
    return int(np.argmin(np.where(inside, area, np.inf)))


def _affine(camera: np.ndarray) -> np.ndarray:
    camera = np.asarray(camera, np.float64)
    if camera.shape != (2, 3) or not np.isfinite(camera).all():
        raise ValueError(f"camera should be a finite (2, 3) affine, got {camera.tolist()}")
    return camera
