"""The working store: what goes in comes out code for code, whatever happens to the file's end."""

import json
from fractions import Fraction

import numpy as np
import pytest

from matting.frames import Mattes
from stream.store import (
    RECORD,
    AlphaCoder,
    AlphaDecoder,
    Store,
    StoreError,
    StoreWriter,
)

SIZE = (37, 53)
HEAD = {"size": list(SIZE), "time_base": "1/30000", "rate": "30000/1001", "hello": "wörld"}


def mattes(index, ids, size=SIZE):
    """Noise that is known again, a box and a score that name their person."""
    rng = np.random.default_rng(index)
    alpha = np.stack([rng.integers(0, 256, size) for _ in ids]) if ids else np.zeros((0, *size))
    many = len(ids)
    return Mattes(
        (alpha / 255).astype(np.float32), np.zeros((many, 1, 1), np.float32),
        np.array([0.5 + i / 8 for i in ids], np.float32),
        np.array([[i, 2, 3, index] for i in ids], np.float32).reshape(many, 4),
        np.zeros((many, 1), np.float32), np.array(ids, np.int64),
    )  # fmt: skip


STATE = b"the state after four frames"
PEOPLE = [[1], [], [1, 2], [7, 2], [30], [1, 2, 30]]


@pytest.fixture
def path(tmp_path):
    writer = StoreWriter(tmp_path / "store.troupe", HEAD)
    for index, ids in enumerate(PEOPLE):
        writer.add(index * 1001, mattes(index, ids))
        if index == 3:
            writer.checkpoint(STATE)
    writer.close()
    return tmp_path / "store.troupe"


def alphas(path):
    store = Store(path)
    decoder = AlphaDecoder(store.parameters)
    return [{p.id: decoder.decoded(p.packet) for p in frame.people} for frame in store.frames()]


def test_what_goes_in_comes_out(path):
    store = Store(path)

    assert {key: store.head[key] for key in HEAD} == HEAD
    assert (store.size, store.time_base) == (SIZE, Fraction(1, 30000))
    for index, (frame, seen) in enumerate(zip(store.frames(), alphas(path), strict=True)):
        given = mattes(index, PEOPLE[index])
        assert (frame.index, frame.pts) == (index, index * 1001)
        assert [person.id for person in frame.people] == PEOPLE[index]
        for person, alpha in zip(frame.people, given.alpha, strict=True):
            np.testing.assert_array_equal(seen[person.id], np.rint(alpha * 255))
            assert person.box == (person.id, 2, 3, index)
            assert person.score == pytest.approx(0.5 + person.id / 8)
    assert store.checkpoint() == (4, STATE)
    register, end = store.walk()
    assert end == path.stat().st_size
    assert register.people == [1, 2, 7, 30]
    assert register.indices[2].tolist() == [2, 3, 5]


def test_cut_anywhere_it_is_whole_up_to_the_cut(path):
    data = path.read_bytes()
    whole = alphas(path)
    ends = [Store(path).walk(n)[1] for n in range(len(PEOPLE) + 1)]
    ends[4] -= RECORD.size + len(STATE)  # which belongs to the frames before it

    for cut in [*ends, *range(ends[0], len(data), 1009)]:
        path.write_bytes(data[:cut])
        kept = sum(end <= cut for end in ends[1:])
        seen = alphas(path)
        assert len(seen) == kept
        for ours, theirs in zip(seen, whole, strict=False):
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[i], theirs[i]) for i in ours)


def test_a_flipped_bit_ends_it_before_the_damage(path):
    data = bytearray(path.read_bytes())
    data[Store(path).walk(4)[1] + 60] ^= 4
    path.write_bytes(data)

    assert len(alphas(path)) == 4


@pytest.mark.parametrize("torn", [0, 1, 12, 400])
def test_going_on_after_a_crash_gives_the_same_as_never_having_stopped(path, torn):
    whole = alphas(path)
    path.write_bytes(path.read_bytes()[: Store(path).walk(4)[1] + torn])

    writer = StoreWriter.resume(path)
    assert writer.frames == 4
    for index in range(writer.frames, len(PEOPLE)):
        writer.add(index * 1001, mattes(index, PEOPLE[index]))
    writer.close()

    again = alphas(path)
    assert [frame.pts for frame in Store(path).frames()] == [i * 1001 for i in range(6)]
    for ours, theirs in zip(again, whole, strict=True):
        np.testing.assert_equal(ours, theirs)
    assert writer.register.indices[30].tolist() == [4, 5]


def test_it_can_be_taken_back_to_an_earlier_frame(path):
    writer = StoreWriter.resume(path, frames=2)
    writer.add(5005, mattes(9, [3]))
    writer.close()

    assert [frame.pts for frame in Store(path).frames()] == [0, 1001, 5005]
    assert Store(path).checkpoint() is None


def test_two_cannot_write_at_once(path):
    writer = StoreWriter.resume(path)
    with pytest.raises(StoreError, match="another run"):
        StoreWriter.resume(path)
    writer.close()
    StoreWriter.resume(path).close()


@pytest.mark.parametrize("data", [b"", b"TROUPE", b"something else altogether", None])
def test_what_is_no_store_is_refused(tmp_path, data):
    path = tmp_path / "store.troupe"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(StoreError, match="no store|cannot be read|not the store"):
        Store(path)


def test_blank_frames_take_next_to_nothing(tmp_path):
    writer = StoreWriter(tmp_path / "store.troupe", HEAD)
    before = (tmp_path / "store.troupe").stat().st_size
    for index in range(100):
        writer.add(index, mattes(index, []))
    writer.close()

    assert (tmp_path / "store.troupe").stat().st_size - before < 100 * 32
    assert json.dumps(Store(writer_path := tmp_path / "store.troupe").head)
    assert Store(writer_path).walk()[0].people == []


def test_a_matte_and_the_blank_are_coded_each_their_own_way_and_one_decoder_reads_both():
    """The blank frame is written wherever somebody is not: it must stay small, and readable between
    any two mattes."""
    coder = AlphaCoder((720, 1280))
    y, x = np.indices((720, 1280))
    matte = np.where(np.hypot(y - 300, x - 500) < 200, y % 256, 0).astype(np.uint8)

    shown = [matte, None, np.zeros_like(matte), matte]
    packets = [coder.blank if one is None else coder.coded(one) for one in shown]
    decoder = AlphaDecoder(coder.parameters)
    seen = [decoder.decoded(packet) for packet in packets]

    assert all(np.array_equal(seen[i], matte) for i in (0, 3))
    assert not seen[1].any() and not seen[2].any()
    assert packets[1] == packets[2] and len(coder.blank) < 1000  # coded as the mattes are: 2,775
    with pytest.raises(ValueError, match="codes should be"):
        coder.coded(matte[:-1])
