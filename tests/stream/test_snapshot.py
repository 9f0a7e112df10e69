"""Snapshots: what goes in comes out, and reading one never runs code."""

import json
import zlib
from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from engines.guard import GuardedEngine
from stream.resume import ROOMS, Begun, ChangedError, Notes, begun, changed
from stream.snapshot import HEAD, SnapshotError, freeze, thaw
from stream.store import StoreWriter
from tests.fakes import SquaresEngine, named, picture
from tracking import Tracker


def test_what_goes_in_comes_out():
    shared = [1, 2.5, float("inf"), "é", None, True]
    value = {
        "list": shared, "again": shared, 3: (Fraction(1, 3), b"\0\xff"), "set": {1, 2},
        "array": np.arange(6, dtype=np.float16).reshape(2, 3), "number": np.int64(7),
        "line": deque([1, 2], maxlen=5),
    }  # fmt: skip

    back = thaw(freeze(value, ()), ())

    assert np.array_equal(back.pop("array"), value.pop("array"))
    assert back == value
    assert back["list"] is back["again"]
    assert back["line"].maxlen == 5


def test_the_state_of_an_engine_comes_back_without_its_spare_pictures():
    engine = GuardedEngine(SquaresEngine(), print, print)
    _, state = engine.step(picture(), engine.start())

    back = thaw(freeze(state, ROOMS), ROOMS)

    assert (back.own, back.frame, back.video.last) == (1, 1, None)
    assert state.video.last is not None
    assert len(freeze(state, ROOMS)) < 1000


@pytest.mark.parametrize(
    "tree",
    [
        ["object", "os", "system", []],
        ["object", "subprocess", "Popen", [["args", "true"]]],
        ["object", "engines.guard", "gc", []],
        ["object", "engines.guard", "GuardedEngine", [["__class__", 1]]],
        ["object", "engines.guard", "np.ndarray", []],
        ["lambda"],
        {"a": 1},
    ],
)
def test_a_snapshot_cannot_name_what_is_not_ours(tree):
    text = json.dumps(tree).encode()

    with pytest.raises(SnapshotError):
        thaw(zlib.compress(HEAD.pack(len(text)) + text), ROOMS)


def test_what_cannot_be_kept_is_refused_and_damage_is_told():
    with pytest.raises(SnapshotError, match="cannot be kept"):
        freeze({"a": print}, ROOMS)
    with pytest.raises(SnapshotError):
        thaw(b"not one", ROOMS)


HEADER = {"size": [96, 160], "time_base": "1/30", "rate": "30",
          "input": {"bytes": 5, "edges_sha256": "x"},
          "about": {"engine": "squares", "weights": "w", "settings": {
              "look": {"people": {"2": "blur"}}, "pipeline": {"decode_ahead": 4},
              "engine": {"backends": ["a", "b"], "threads": None}}}}  # fmt: skip


def test_notes_wait_until_their_frames_are_on_the_disk(tmp_path):
    """A note of frame 5 needs frames 0 to 4; the store goes back to frame 5 then."""
    now = [0.0]
    notes = Notes(Tracker(), every_seconds=1.0, clock=lambda: now[0])
    for _ in range(8):
        notes.before(None)
        now[0] += 0.2
    assert notes.due(4) is None
    note = notes.due(5)
    store = StoreWriter(tmp_path / "store", HEADER)
    mattes = named(SquaresEngine().step(picture(), 0)[0])
    for pts in range(5):
        store.add(pts, mattes)
    store.checkpoint(note)
    store.add(5, mattes)
    store.close()

    from stream.store import Store

    found = begun(Store(tmp_path / "store"), HEADER)

    assert isinstance(found, Begun)
    assert found.frames == 5
    tracker = Tracker()
    tracker.restore(found.state["tracker"])
    assert notes.due(99) is None


def test_an_engine_whose_state_cannot_be_kept_is_told_and_harms_nothing():
    notes = Notes(Tracker(), every_seconds=0)

    notes.before(print)
    notes.before(print)

    assert "cannot be kept" in notes.impossible
    assert notes.due(9) is None


def test_only_what_decides_about_the_results_is_a_change():
    other = json.loads(json.dumps(HEADER))
    other["about"]["settings"]["pipeline"]["decode_ahead"] = 9
    other["about"]["settings"]["engine"]["threads"] = 2
    assert changed(HEADER, other) == []

    other["about"]["settings"]["look"]["people"]["3"] = "remove"
    other["input"]["bytes"] = 6
    told = changed(HEADER, other)

    assert len(told) == 2
    assert "look.people.3 was None, now 'remove'" in told[1]


def test_a_run_that_is_another_is_refused(tmp_path):
    StoreWriter(tmp_path / "store", HEADER).close()
    from stream.store import Store

    with pytest.raises(ChangedError, match="the engine was squares, now x"):
        begun(
            Store(tmp_path / "store"), HEADER | {"about": HEADER["about"] | {"engine": "x"}}
        )
