"""Does everyone keep their number?  HOTA, IDF1 and identity switches from similarity matrices.

A sequence is a list of `IdentityFrame`: who was truly there, who was predicted, and how similar
each true person is to each predicted one (box IoU, matte IoU; the measures do not mind which).
Similarity lies in [0, 1].  Identities are any integers; they mean something only within a sequence.

Sources: HOTA, DetA, AssA and LocA are from Luiten et al., "HOTA: a higher order metric for
evaluating multi-object tracking", IJCV 2021; IDF1 from Ristani et al., "Performance measures and a
data set for multi-target, multi-camera tracking", ECCVW 2016; switches and MOTA from Bernardin and
Stiefelhagen, "Evaluating multiple object tracking performance: the CLEAR MOT metrics", 2008.
Several sequences are combined by adding their counts, as the benchmarks do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from matting.metrics.instances import overlap_matrix

LEVELS = np.arange(1, 20) / 20  # the similarity thresholds HOTA averages over: 0.05 ... 0.95
SAME = 0.5  # the similarity from which IDF1 and CLEAR call two things the same
EPSILON = 1e-9  # keeps a similarity of exactly 0.5 on the right side of 0.5


@dataclass(frozen=True, slots=True, eq=False)
class IdentityFrame:
    """Everyone truly present and everyone predicted in one frame."""

    true_ids: np.ndarray  # (T,) int
    predicted_ids: np.ndarray  # (P,) int
    similarity: np.ndarray  # (T, P) float in [0, 1]

    def __post_init__(self) -> None:
        wanted = (len(self.true_ids), len(self.predicted_ids))
        if self.similarity.shape != wanted:
            raise ValueError(f"similarity should be {wanted}, got {self.similarity.shape}")
        for name, ids in (("true", self.true_ids), ("predicted", self.predicted_ids)):
            if len(set(ids.tolist())) != len(ids):
                raise ValueError(f"one {name} id is in two places of a frame: {ids.tolist()}")


def mask_frame(
    true: np.ndarray, true_ids: Sequence[int], predicted: np.ndarray, predicted_ids: Sequence[int],
    threshold: float = 0.5,
) -> IdentityFrame:  # fmt: skip
    """A frame whose similarity is the IoU of masks: what mattes (N, H, W) above `threshold` cover,
    as the mask variants of HOTA and IDF1 (MOTS) take it."""
    overlap = overlap_matrix(predicted, true, threshold)
    return IdentityFrame(np.asarray(true_ids, int), np.asarray(predicted_ids, int), overlap.T)


@dataclass(frozen=True)
class IdentityScores:
    """All in [0, 1] but the counts."""

    hota: float
    deta: float  # are people found
    assa: float  # do they keep their number
    loca: float  # how similar is what was matched
    idf1: float
    mota: float
    switches: int
    true_people: int  # distinct true identities
    predicted_people: int  # distinct predicted identities


@dataclass(frozen=True)
class GapScores:
    """What happened to people who left for `shortest` to `longest` frames and came back."""

    shortest: int
    longest: int | None  # None: without bound
    gaps: int
    same: int  # came back under their own number
    stranger: int  # came back under a number that someone else had carried before


def identity_scores(sequences: Iterable[Sequence[IdentityFrame]]) -> IdentityScores:
    """The scores of one or several sequences, combined by adding their counts."""
    tallies = [_tally(frames) for frames in sequences]
    found = sum((t.found for t in tallies), np.zeros(len(LEVELS)))
    association = sum((t.association for t in tallies), np.zeros(len(LEVELS)))
    location = sum((t.location for t in tallies), np.zeros(len(LEVELS)))
    true_count = sum(t.true_count for t in tallies)
    predicted_count = sum(t.predicted_count for t in tallies)
    deta = found / np.maximum(true_count + predicted_count - found, 1)
    assa = association / np.maximum(found, 1)
    loca = np.where(found > 0, location / np.maximum(found, 1), 1.0)
    matched = sum(t.matched for t in tallies)
    switches = sum(t.switches for t in tallies)
    invented = predicted_count - matched
    return IdentityScores(
        hota=float(np.sqrt(deta * assa).mean()),
        deta=float(deta.mean()),
        assa=float(assa.mean()),
        loca=float(loca.mean()),
        idf1=2 * sum(t.identity_matches for t in tallies) / max(true_count + predicted_count, 1),
        mota=(matched - invented - switches) / max(true_count, 1),
        switches=switches,
        true_people=sum(t.true_people for t in tallies),
        predicted_people=sum(t.predicted_people for t in tallies),
    )


def gap_scores(
    sequences: Iterable[Sequence[IdentityFrame]],
    edges: Sequence[int] = (1, 6, 31, 91),
    patience: int = 10,
) -> list[GapScores]:
    """How people come back, by how many frames they were away (our own definition).

    A gap is a run of frames without a true person between two frames with them.  Their number
    before it is the last one matched to them (similarity >= 0.5, the matching CLEAR uses); after
    it, the first one matched within `patience` frames of the return.  Gaps with no number on one
    side are counted, as neither same nor stranger.
    """
    counts = np.zeros((len(edges), 3), int)  # gaps, same, stranger
    for frames in sequences:
        last_seen: dict[int, int] = {}  # true id -> frame
        number: dict[int, int] = {}  # true id -> last predicted id matched to it
        owners: dict[int, set[int]] = {}  # predicted id -> true ids that carried it
        returning: dict[int, tuple[int, int, int | None]] = {}  # true id -> until, bin, old number
        for index, (frame, pairs) in enumerate(zip(frames, _clear_pairs(frames), strict=True)):
            for true in frame.true_ids.tolist():
                away = index - last_seen.get(true, index) - 1
                if away >= edges[0]:
                    size = int(np.searchsorted(edges, away, side="right")) - 1
                    counts[size, 0] += 1
                    returning[true] = (index + patience, size, number.get(true))
                last_seen[true] = index
            for true, predicted in pairs.items():
                until, size, old = returning.pop(true, (-1, 0, None))
                if index <= until and old is not None:
                    counts[size, 1] += predicted == old
                    strangers = owners.get(predicted, set()) - {true}
                    counts[size, 2] += predicted != old and bool(strangers)
                number[true] = predicted
            for true, predicted in pairs.items():
                owners.setdefault(predicted, set()).add(true)
    longest = [edge - 1 for edge in edges[1:]] + [None]
    return [
        GapScores(shortest, last, *map(int, row))
        for shortest, last, row in zip(edges, longest, counts, strict=True)
    ]


@dataclass(frozen=True)
class _Tally:
    """The counts of one sequence; arrays hold one number per level of similarity."""

    found: np.ndarray  # (19,) matched pairs
    association: np.ndarray  # (19,) sum over matched pairs of their association accuracy
    location: np.ndarray  # (19,) sum of their similarities
    true_count: int
    predicted_count: int
    identity_matches: int
    matched: int
    switches: int
    true_people: int
    predicted_people: int


def _tally(frames: Sequence[IdentityFrame]) -> _Tally:
    true_rows = _rows(frame.true_ids for frame in frames)
    predicted_rows = _rows(frame.predicted_ids for frame in frames)
    indexed = [
        (
            np.array([true_rows[i] for i in frame.true_ids.tolist()], int),
            np.array([predicted_rows[i] for i in frame.predicted_ids.tolist()], int),
            np.asarray(frame.similarity, np.float64),
        )
        for frame in frames
    ]
    shape = (len(true_rows), len(predicted_rows))
    true_frames, predicted_frames = np.zeros(shape[0]), np.zeros(shape[1])
    together = np.zeros(shape)  # how much each pair overlaps over the whole sequence
    same = np.zeros(shape)  # frames in which each pair could be called the same
    for true, predicted, similarity in indexed:
        true_frames[true] += 1
        predicted_frames[predicted] += 1
        rivals = similarity.sum(0)[None] + similarity.sum(1)[:, None] - similarity
        together[np.ix_(true, predicted)] += similarity / np.maximum(rivals, EPSILON)
        same[np.ix_(true, predicted)] += similarity >= SAME - EPSILON

    # HOTA: one matching per frame, led by how well two identities agree over the whole sequence
    alignment = together / np.maximum(
        true_frames[:, None] + predicted_frames[None] - together, EPSILON
    )
    pairs = np.zeros((len(LEVELS), *shape))  # frames in which each pair is matched, per level
    location = np.zeros(len(LEVELS))
    for true, predicted, similarity in indexed:
        score = alignment[np.ix_(true, predicted)] * similarity
        rows, columns = linear_sum_assignment(score, maximize=True)
        similar = similarity[rows, columns]
        hit = similar[None] >= LEVELS[:, None] - EPSILON  # (19, pairs)
        hit &= score[rows, columns] > 0
        pairs[:, true[rows], predicted[columns]] += hit
        location += (hit * similar).sum(1)
    accuracy = pairs / np.maximum(true_frames[:, None] + predicted_frames[None] - pairs, EPSILON)

    # IDF1: one matching of whole identities
    rows, columns = linear_sum_assignment(same, maximize=True)

    matched, switches = 0, 0
    number: dict[int, int] = {}
    for pairs_now in _clear_pairs(frames):
        matched += len(pairs_now)
        switches += sum(number.get(true, got) != got for true, got in pairs_now.items())
        number.update(pairs_now)
    return _Tally(
        found=pairs.sum((1, 2)),
        association=(pairs * accuracy).sum((1, 2)),
        location=location,
        true_count=int(true_frames.sum()),
        predicted_count=int(predicted_frames.sum()),
        identity_matches=int(same[rows, columns].sum()),
        matched=matched,
        switches=switches,
        true_people=shape[0],
        predicted_people=shape[1],
    )


def _clear_pairs(frames: Sequence[IdentityFrame]) -> Iterable[dict[int, int]]:
    """Per frame {true id: predicted id}: pairs of the previous frame first, then by similarity."""
    previous: dict[int, int] = {}
    for frame in frames:
        true, predicted = frame.true_ids.tolist(), frame.predicted_ids.tolist()
        if not true or not predicted:
            yield {}  # an empty frame does not break a pair: as TrackEval counts it
            continue
        kept = np.array([[previous.get(t) == p for p in predicted] for t in true], bool)
        similarity = np.asarray(frame.similarity, np.float64)
        score = np.where(
            similarity >= SAME - EPSILON, similarity + 1000 * kept.reshape(similarity.shape), 0.0
        )
        rows, columns = linear_sum_assignment(score, maximize=True)
        previous = {
            true[r]: predicted[c]
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
            if score[r, c] > 0
        }
        yield previous


def _rows(ids: Iterable[np.ndarray]) -> dict[int, int]:
    """Identity -> row, in order of first appearance."""
    rows: dict[int, int] = {}
    for frame in ids:
        for identity in frame.tolist():
            rows.setdefault(identity, len(rows))
    return rows
