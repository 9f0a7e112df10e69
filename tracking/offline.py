"""The second look at a video that is over: forward and backward, and then at everyone at once.

The tracker goes through the video as it came, and once more from its end.  Where both say that two
sightings are one person, they are; where they do not, at a crossing or after a gap, the track is
taken apart.  The pieces are put together again by what all of a piece looks like, most alike first:
never two that are there at the same time, and never by place alone, which was measured to do harm
(docs/decisions/0006-tracker.md).  Where there are no codes, the first look stands.

Everything is kept small (a thumbnail and half-precision codes: 0.8 kB a sighting): an hour of three
people takes a quarter of a gigabyte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matting.frames import Mattes
from tracking.scenery import Change, Scenery
from tracking.similarity import thumbnails, unit
from tracking.tracker import Tracker

ALIKE = 0.5  # agreement of codes two pieces need to be one person
MARGIN = 0.1  # and how much more than with any other piece that could be meant
LINKED = 0.5  # what it is worth that the tracker joined them, looking one way: enough by itself


@dataclass(frozen=True, eq=False)
class _Moment:
    """One frame, as much of it as a second look needs."""

    seconds: float
    change: Change
    box: np.ndarray  # (N, 4) float32
    score: np.ndarray  # (N,) float32
    coarse: np.ndarray  # (N, h, w) uint8
    code: np.ndarray  # (N, D) float16
    size: tuple[int, int]

    def mattes(self) -> Mattes:
        count, (height, width) = len(self.score), self.size
        return Mattes(
            # nothing looks at full mattes but a pin, which then goes by boxes
            alpha=np.broadcast_to(np.float32(0), (count, height, width)),
            coarse=self.coarse.astype(np.float32) / 255,
            score=self.score, box=self.box, code=self.code.astype(np.float32),
            ids=np.full(count, -1, np.int64),
        )  # fmt: skip


class SecondLook:
    """Takes in a whole video, frame by frame, and then says who was who.

    `tracker` is new, and knows what it is to know of names; afterwards its `names` hold for the
    numbers given here.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._scenery = Scenery()
        self._moments: list[_Moment] = []
        self._forward: list[np.ndarray] = []

    def add(self, mattes: Mattes, seconds: float, rgb: np.ndarray | None = None) -> None:
        """The next frame, as `Tracker.update` takes it."""
        before = self._moments[-1].seconds if self._moments else seconds
        change = Change(False, False, None)
        if rgb is not None:
            change = self._scenery.change(rgb, mattes.coarse, seconds - before)
        self._forward.append(self._tracker.update(mattes, seconds, change=change))
        self._moments.append(
            _Moment(
                seconds, change, mattes.box.copy(), mattes.score.copy(),
                np.round(thumbnails(mattes.coarse) * 255).astype(np.uint8),
                mattes.code.astype(np.float16), mattes.alpha.shape[1:3],
            )
        )  # fmt: skip

    def numbers(self) -> list[np.ndarray]:
        """For every frame (N,): the number of each of its mattes, from 1, or 0 for nobody."""
        self._tracker.finish()
        forward = _resolved(self._forward, self._tracker)
        width = max((m.code.shape[1] for m in self._moments), default=0)
        if not width or not self._moments:
            return forward
        backward = self._backward()
        pieces = _pieces(forward, backward)
        if not pieces:
            return forward
        owner = self._joined(pieces, width)
        return self._numbered(forward, pieces, owner)

    def _backward(self) -> list[np.ndarray]:
        """The same video from its end, by a tracker of its own."""
        tracker = Tracker(self._tracker.settings)
        end = self._moments[-1].seconds
        ids: list[np.ndarray] = []
        following = Change(False, False, None)
        for moment in reversed(self._moments):
            camera = following.camera
            change = Change(
                following.cut, following.doubtful, None if camera is None else _undone(camera)
            )
            ids.append(tracker.update(moment.mattes(), end - moment.seconds, change=change))
            following = moment.change
        tracker.finish()
        return _resolved(ids, tracker)[::-1]

    def _joined(self, pieces: list[_Piece], width: int) -> list[int]:
        """For each piece, which person it is: pieces are joined, the most alike first."""
        look = np.stack([self._look(piece, width) for piece in pieces])
        look = unit(look - look.sum(0) / (len(look) + 8))
        alike = self._tracker.agreement_of(look @ look.T)
        count = len(pieces)
        spans = [set(piece.frames) for piece in pieces]
        score = np.full((count, count), -np.inf)
        for a in range(count):
            for b in range(a + 1, count):
                if spans[a].isdisjoint(spans[b]):
                    bonus = LINKED * (pieces[a].forward == pieces[b].forward != 0)
                    bonus += LINKED * (pieces[a].backward == pieces[b].backward != 0)
                    score[a, b] = score[b, a] = alike[a, b] + bonus
        owner = list(range(count))
        members = {i: [i] for i in range(count)}
        order = sorted(
            (-score[a, b], a, b)
            for a in range(count)
            for b in range(a + 1, count)
            if score[a, b] >= ALIKE
        )
        for cost, a, b in order:
            one, other = owner[a], owner[b]
            if one == other:
                continue
            if any(spans[i] & spans[j] for i in members[one] for j in members[other]):
                continue
            # somebody else who could be meant as well, and cannot be the same person too
            rivals = [
                score[a, c] for c in range(count)
                if owner[c] not in (one, other) and spans[c] & spans[b]
            ] + [
                score[b, c] for c in range(count)
                if owner[c] not in (one, other) and spans[c] & spans[a]
            ]  # fmt: skip
            if max(rivals, default=-np.inf) > -cost - MARGIN:
                continue
            low, high = min(one, other), max(one, other)
            members[low] += members.pop(high)
            for piece in members[low]:
                owner[piece] = low
        return owner

    def _look(self, piece: _Piece, width: int) -> np.ndarray:
        """(D,) the mean of a piece's codes, the sure ones counting more."""
        total = np.zeros(width)
        for frame, row in zip(piece.frames, piece.rows, strict=True):
            moment = self._moments[frame]
            total += moment.score[row] ** 2 * unit(moment.code[row : row + 1].astype(float))[0]
        return unit(total[None])[0]

    def _numbered(
        self, forward: list[np.ndarray], pieces: list[_Piece], owner: list[int]
    ) -> list[np.ndarray]:
        people: dict[int, list[_Piece]] = {}
        for piece, person in zip(pieces, owner, strict=True):
            people.setdefault(person, []).append(piece)
        least = self._tracker.settings.confirm_hits
        believed = [
            mine for mine in people.values()
            if sum(len(piece.frames) for piece in mine) >= min(least, len(self._moments))
        ]  # fmt: skip

        def appearance(mine: list[_Piece]) -> tuple[int, float]:
            first = min(mine, key=lambda piece: piece.frames[0])
            box = self._moments[first.frames[0]].box[first.rows[0]]
            return first.frames[0], float(box[0])

        believed.sort(key=appearance)
        numbers = [np.zeros(len(row), np.int64) for row in forward]
        names: dict[int, str] = {}
        for number, mine in enumerate(believed, 1):
            for piece in mine:
                for frame, row in zip(piece.frames, piece.rows, strict=True):
                    numbers[frame][row] = number
                name = self._tracker.names.get(piece.forward)
                if name and name not in names.values():
                    names[number] = name
        self._tracker.names = names
        return numbers


@dataclass(eq=False)
class _Piece:
    """A run of sightings that both ways of looking call one person."""

    forward: int  # their number, looking forward, or 0
    backward: int
    frames: list[int]  # rising
    rows: list[int]  # the row in each frame's mattes


def _pieces(forward: list[np.ndarray], backward: list[np.ndarray]) -> list[_Piece]:
    """Runs of sightings about which both ways agree, where neither says otherwise in between.

    One way may be silent (0) where the other speaks.
    """
    open_: list[_Piece] = []
    done: list[_Piece] = []
    for index, (ahead, behind) in enumerate(zip(forward, backward, strict=True)):
        for row, (one, other) in enumerate(zip(ahead.tolist(), behind.tolist(), strict=True)):
            if not one and not other:
                continue
            piece = None
            for known in list(open_):
                same = (one and known.forward == one, other and known.backward == other)
                if not any(same):
                    continue
                against = (one and known.forward and known.forward != one) or (
                    other and known.backward and known.backward != other
                )
                if against or piece is not None or known.frames[-1] == index:
                    open_.remove(known)
                    done.append(known)
                else:
                    piece = known
            if piece is None:
                piece = _Piece(0, 0, [], [])
                open_.append(piece)
            piece.forward, piece.backward = one or piece.forward, other or piece.backward
            piece.frames.append(index)
            piece.rows.append(row)
    return sorted([*done, *open_], key=lambda piece: (piece.frames[0], piece.rows[0]))


def _resolved(ids: list[np.ndarray], tracker: Tracker) -> list[np.ndarray]:
    return [
        np.array([max(tracker.resolved.get(int(i), int(i)), 0) for i in row], np.int64)
        for row in ids
    ]


def _undone(camera: np.ndarray) -> np.ndarray:
    """The affine (2, 3) that leads back."""
    back = np.linalg.inv(camera[:, :2])
    return np.column_stack([back, -back @ camera[:, 2]])
