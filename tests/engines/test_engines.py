"""Every backend keeps the engine's promises, and all of them give the same mattes."""

import threading
from fractions import Fraction
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

import engines
from engines import BACKENDS, EngineError, available, load_engine
from engines.areas import by_areas
from engines.base import LAG
from engines.exported import ExportedEngine
from engines.guard import GuardedEngine
from engines.openvino_engine import digest
from engines.people import Answer, shrink, working_size
from matting.frames import UNTRACKED, Frame, no_one
from stream.snapshot import freeze, thaw
from stream.stages import matte

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
HERE = [name for name in ("openvino", "onnxruntime", "torch") if find_spec(name)]


@pytest.mark.parametrize("size", [(720, 1280), (540, 960), (1080, 1920), (480, 640), (1280, 720)])
def test_pictures_are_shrunk_as_opencv_averages_areas(size):
    """Its sums are of floats, which may fall on the other side of a half."""
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    target = working_size(size)

    gap = np.abs(by_areas(rgb, target).astype(int) - cv2.resize(rgb, target[::-1],
                                                                interpolation=cv2.INTER_AREA))

    assert gap.max() <= 1 and gap.mean() < 0.02
    assert np.array_equal(shrink(rgb, target)[0], by_areas(rgb, target))


def demo_frames(first: int, count: int) -> list[np.ndarray]:
    import av

    with av.open(str(ROOT / "demo/bedroom.mp4")) as clip:
        frames = islice(clip.decode(video=0), first, first + count)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def demo_frame(at: int = 0) -> np.ndarray:
    return demo_frames(at, 1)[0]


@pytest.fixture(scope="module")
def loaded():
    made = {name: load_engine([name], WEIGHTS, threads=1) for name in HERE}
    yield made
    for engine in made.values():
        engine.close()


@pytest.mark.parametrize("name", HERE)
def test_two_children_are_two_people(loaded, name):
    rgb = demo_frame(160)
    mattes, _ = loaded[name].step(rgb, loaded[name].start())
    sure = mattes.pick(np.flatnonzero(mattes.score > 0.6))

    assert len(sure) == 2
    assert sure.alpha.shape == (2, 540, 960) and sure.alpha.dtype == np.float32
    assert (mattes.ids == UNTRACKED).all()
    assert list(mattes.score) == sorted(mattes.score, reverse=True)
    assert mattes.alpha.sum(0).max() <= 1 + 1e-5
    middle = [(a > 0.5).nonzero()[1].mean() for a in sure.alpha]
    assert abs(middle[0] - middle[1]) > 150  # one on the left, one in the middle


@pytest.mark.parametrize("name", [n for n in HERE if n != "torch"])
@pytest.mark.parametrize("size", [(540, 960), (367, 241)])
def test_every_backend_gives_the_mattes_torch_gives(loaded, name, size):
    if "torch" not in loaded:
        pytest.skip("torch is not installed")
    # (no two peaks of its people-centre map are equal to four digits: the export's weights are
    # rounded once more, and another choice of the weakest codes moves everyone's score by 0.007)
    rgb = cv2.resize(demo_frame(170), size[::-1])
    ours, theirs = (loaded[n].step(rgb, None)[0] for n in (name, "torch"))

    assert len(ours) == len(theirs)
    assert np.abs(ours.score - theirs.score).max(initial=0) < 1e-3
    # float32 in another order of summation; a slope of 40 per unit colour multiplies it
    assert np.abs(ours.alpha - theirs.alpha).max(initial=0) < 1e-2
    assert np.abs(ours.code - theirs.code).max(initial=0) < 1e-2


@pytest.mark.parametrize("name", HERE)
def test_what_a_step_returned_is_not_changed_by_the_next(loaded, name):
    engine = loaded[name]
    first, state = engine.step(demo_frame(160), engine.start())
    kept = [np.copy(x) for x in (first.alpha, first.code, first.coarse, first.score)]

    engine.step(np.zeros((540, 960, 3), np.uint8), state)

    for before, now in zip(kept, (first.alpha, first.code, first.coarse, first.score), strict=True):
        assert np.array_equal(before, now)


@pytest.mark.parametrize("name", HERE)
def test_an_empty_room_has_no_one_in_it(loaded, name):
    gray = np.full((288, 512, 3), 120, np.uint8)
    mattes, _ = loaded[name].step(gray, None)
    assert (mattes.score < 0.6).all()


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((8, 8, 4), np.uint8),
              np.zeros((8, 8, 3), np.float32)],
)  # fmt: skip
@pytest.mark.parametrize("name", HERE)
def test_a_picture_of_another_kind_is_refused_with_what_was_found(loaded, name, wrong):
    with pytest.raises(ValueError, match="uint8 RGB, got"):
        loaded[name].step(wrong, None)


def test_the_backend_asked_for_is_the_backend_used():
    engine = load_engine([HERE[-1]], WEIGHTS, threads=1)
    assert engine.name == HERE[-1]


def test_falling_back_follows_the_list_and_says_why(monkeypatch):
    told = []
    monkeypatch.setattr(
        engines, "_probe", lambda name, weights: (name != HERE[0], f"{name} has no fuel")
    )

    engine = load_engine(HERE[:2], WEIGHTS, threads=1, log=told.append)

    assert engine.name == HERE[1]
    assert told == [f"running on {HERE[1]}, because {HERE[0]}: {HERE[0]} has no fuel"]


def test_when_nothing_can_run_every_reason_is_given(monkeypatch):
    monkeypatch.setattr(engines, "_probe", lambda name, weights: (False, f"{name} has no fuel"))
    with pytest.raises(EngineError, match="openvino has no fuel.*torch has no fuel"):
        load_engine(["openvino", "torch"], WEIGHTS)


def test_an_engine_no_one_knows_is_an_error_that_lists_those_there_are():
    with pytest.raises(EngineError, match="no engine 'tensorrt9'; there are openvino"):
        load_engine(["tensorrt9"], WEIGHTS)


def test_missing_and_damaged_weights_say_so(tmp_path):
    with pytest.raises(EngineError, match="matting.network.export"):
        load_engine(HERE[:1], tmp_path)
    (tmp_path / "live.onnx").write_bytes(b"not a network")
    with pytest.raises(EngineError, match="live.onnx"):
        load_engine(HERE[:1], tmp_path)


def test_every_backend_says_whether_it_can_run_here_and_if_not_why():
    told = {a.name: a for a in available(WEIGHTS)}
    assert tuple(told) == BACKENDS
    assert all(told[name].ok for name in HERE)
    assert all(a.reason for a in told.values())


@pytest.mark.skipif("openvino" not in HERE, reason="openvino is not installed")
def test_a_backend_the_processor_or_the_weights_have_nothing_for_is_not_called_able(
    tmp_path, monkeypatch
):
    """Else a list that begins with it would be settled on it before anything is loaded."""
    for file in ("live.onnx", "live.safetensors"):
        (tmp_path / file).write_bytes((WEIGHTS / file).read_bytes())
    monkeypatch.setattr("engines.openvino_engine.multiplies_bf16", lambda core: False)
    told = {a.name: a for a in available(tmp_path)}

    assert told["openvino"].ok
    assert not told["openvino-bf16"].ok and "bfloat16" in told["openvino-bf16"].reason
    assert not told["openvino-int8"].ok and "engines.quantise" in told["openvino-int8"].reason


@pytest.mark.parametrize("name", [n for n in HERE if n != "torch"])
def test_an_export_without_the_file_that_holds_its_weights_says_which_is_missing(tmp_path, name):
    (tmp_path / "live.onnx").write_bytes((WEIGHTS / "live.onnx").read_bytes())
    with pytest.raises(EngineError, match=r"live\.safetensors: not there.*copy both"):
        load_engine([name], tmp_path)


def test_numbers_that_are_not_finite_never_become_a_matte(loaded):
    class Broken(ExportedEngine):
        name = "broken"

        def _compile(self, size, at_once):
            return None

        def _run(self, network, image, kept):
            answer, kept = inner._run(inner.network((288, 512)), image, kept)
            return answer._replace(score=answer.score * np.nan), kept

    inner = loaded[HERE[0]]
    inner.step(demo_frame(0), None)
    with pytest.raises(EngineError, match="not finite"):
        Broken(0.3).step(demo_frame(0), None)


def test_a_folder_of_many_shapes_does_not_fill_memory_with_networks():
    class Counting(ExportedEngine):
        name, compiled = "counting", 0

        def _compile(self, size, at_once):
            self.compiled += 1
            return None

        def _run(self, network, image, kept):
            return nothing(image), kept

    engine = Counting(0.3)
    for width in range(40, 400, 20):
        engine.step(np.zeros((100, width, 3), np.uint8), None)
    engine.step(np.zeros((100, 380, 3), np.uint8), None)

    assert len(engine._ready) <= 6
    assert engine.compiled <= 18  # and the last was not compiled twice


def test_the_shipped_export_belongs_to_the_shipped_weights():
    onnx = pytest.importorskip("onnx")
    import hashlib

    facts = {p.key: p.value for p in onnx.load(WEIGHTS / "live.onnx").metadata_props}
    digest = hashlib.sha256((WEIGHTS / "live.safetensors").read_bytes()).hexdigest()
    assert facts["weights_sha256"] == digest
    assert b".py" not in (WEIGHTS / "live.onnx").read_bytes()  # nor whose disk it was made on
    size = sum(f.stat().st_size for f in WEIGHTS.glob("live.*"))
    assert size < 20e6


@pytest.mark.parametrize("name", [n for n in HERE if n != "torch"])
def test_what_a_network_remembers_of_a_video_is_kept_with_that_video(tmp_path, name):
    onnx = pytest.importorskip("onnx")
    from tests.engines.toy_network import three_people, toy_model

    onnx.save(toy_model(memory=True), str(tmp_path / "live.onnx"))
    engine = load_engine([name], tmp_path, threads=1)
    rgb = three_people()

    seen, states = [], [engine.start()]
    for _ in range(5):
        mattes, state = engine.step(rgb, states[-1])
        seen.append(mattes.score)
        states.append(state)
    other, _ = engine.step(rgb, engine.start())  # another video in between
    turned, _ = engine.step(np.ascontiguousarray(rgb.transpose(1, 0, 2)), states[2])

    # what a picture leaves is given to the one LAG later, so that two may be under way
    assert LAG == 2 and np.array_equal(seen[0], seen[1]) and np.array_equal(seen[2], seen[3])
    assert seen[0].max() < seen[2].max() < seen[4].max()
    assert np.array_equal(seen[0], other.score)  # nothing of the first video is left
    assert np.array_equal(engine.step(rgb, states[2])[0].score, seen[2])  # it is not used up
    assert turned.score == pytest.approx(seen[0], abs=0.05)  # another size: it starts anew


@pytest.mark.parametrize("name", [n for n in HERE if n != "torch"])
def test_pictures_under_way_at_once_are_answered_as_one_by_one(loaded, name):
    """Bit for bit, whatever their sizes, and each to whom it belongs."""
    pictures = [demo_frame(at) for at in (0, 160)]
    pictures += [p[:, 100:500].copy() for p in pictures]
    engine = load_engine([name], WEIGHTS, threads=2, in_flight=3)
    state, pending = engine.start(), []
    for rgb in [*pictures, *pictures]:
        waiting, state = engine.submit(rgb, state)
        pending.append(waiting)
    found = [waiting.result() for waiting in pending]
    engine.close()

    assert engine.in_flight == 3
    for rgb, ours in zip([*pictures, *pictures], found, strict=True):
        theirs, _ = loaded[name].step(rgb, None)
        assert np.array_equal(ours.score, theirs.score)
        assert np.array_equal(ours.alpha, theirs.alpha)


def test_who_steps_behind_someone_is_believed_in_for_having_been_seen(loaded):
    """The boy of the demo clip, frame 26 to 45; a frame that is told nothing half doubts him."""
    engine = loaded[HERE[0]]
    state, told, alone = engine.start(), [], []
    for rgb in demo_frames(26, 20):
        mattes, state = engine.step(rgb, state)
        told.append(mattes.score)
        alone.append(engine.step(rgb, engine.start())[0].score)

    second, without = (np.array([score[1] if len(score) > 1 else 0 for score in scores])
                       for scores in (told, alone))  # fmt: skip
    assert np.array_equal(told[1], alone[1])  # nothing is known yet
    assert second[2:].mean() > without[2:].mean() + 0.05


@pytest.mark.parametrize("name", [n for n in HERE if n != "torch"])
def test_what_is_remembered_does_not_depend_on_how_many_are_under_way(tmp_path, name):
    """Nor on being kept between runs."""
    onnx = pytest.importorskip("onnx")
    from tests.engines.toy_network import three_people, toy_model

    onnx.save(toy_model(memory=True), str(tmp_path / "live.onnx"))
    engine = load_engine([name], tmp_path, threads=2, in_flight=3)
    pictures = [three_people(i) for i in range(6)]
    one, right = engine.start(), []
    for rgb in pictures:
        mattes, one = engine.step(rgb, one)
        right.append(mattes.score)
    state, pending = engine.start(), []
    for i, rgb in enumerate(pictures):
        if i == 4:
            assert all(len(waiting.result()) for waiting in pending)  # nothing is under way
            state = thaw(freeze(state, ("engines",)), ("engines",))
        waiting, state = engine.submit(rgb, state)
        pending.append(waiting)
    found = [waiting.result().score for waiting in pending]
    engine.close()

    assert not np.array_equal(right[0], right[4])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, right, strict=True))


def test_a_picture_that_fails_leaves_what_is_remembered_as_it_was():
    class Counting(Slow):
        def __init__(self, in_flight):
            super().__init__(in_flight)
            self._keeps = {"memory": 1}

        def _run(self, network, image, kept):
            answer, _ = super()._run(network, image, kept)
            told.append(float(kept.get("memory", np.zeros(1))[0]))
            return answer, {"memory": np.full(1, 1 + told[-1])}

    told: list[float] = []
    engine = Counting(2)
    engine.allowed.set()
    state = engine.start()
    for value in (0, 0, 13, 0, 0, 0):  # of the third nothing is known
        pending, state = engine.submit(np.full((32, 32, 3), value, np.uint8), state)
        if value == 13:
            with pytest.raises(MemoryError):
                pending.result()
        else:
            pending.result()

    assert told == [0, 0, 1, 1, 2]


def test_a_picture_waits_for_what_it_is_told_and_for_nothing_else():
    """The first of four is slow: the third, which is told what it left, waits, the fourth does not;
    and an engine that is closed meanwhile answers all of them."""
    class Stuck(Slow):
        def __init__(self):
            super().__init__(4)
            self._keeps, self.order = {"memory": 1}, []

        def _run(self, network, image, kept):
            value = int(image[0, 0, 0, 0])
            if value == 0:
                assert self.allowed.wait(30)
            self.order.append(value)
            return nothing(image), {"memory": np.full(1, float(value))}

    engine = Stuck()
    state, pending = engine.start(), []
    for value in range(4):
        waiting, state = engine.submit(np.full((32, 32, 3), value, np.uint8), state)
        pending.append(waiting)
    assert len(pending[1].result()) == len(pending[3].result()) == 0  # while the first is stuck
    assert engine.order == [1, 3]

    threading.Timer(0.1, engine.allowed.set).start()
    engine.close()
    assert engine.order == [1, 3, 0, 2] and all(waiting.done() for waiting in pending)


def test_an_engine_overlaps_only_where_there_is_something_to_gain():
    alone = load_engine(HERE[:1], WEIGHTS, threads=1, in_flight=3)
    asked = load_engine(HERE[:1], WEIGHTS, threads=2)

    assert not any(hasattr(engine, "submit") for engine in (alone, asked))


class Slow(ExportedEngine):
    """Answers when it is allowed to; a picture that begins with 13 is its bane."""

    name = "slow"

    def __init__(self, in_flight):
        super().__init__(0.3)
        self.allowed, self.begun = threading.Event(), 0
        self.overlap(in_flight, threads=2)

    def _compile(self, size, at_once):
        return at_once

    def _run(self, network, image, kept):
        assert network == 2
        self.begun += 1
        assert self.allowed.wait(30)
        if image[0, 0, 0, 0] == 13:
            raise MemoryError("bad_alloc")
        return nothing(image), kept


def nothing(image):
    h8, w8 = image.shape[1] // 8, image.shape[2] // 8
    return Answer(
        np.zeros(2, np.float32), np.zeros((2, 4), np.float32),
        np.zeros((2, h8, w8), np.float32), np.zeros((2, 3, h8, w8), np.float32),
        np.zeros((2, 4, 3), np.float32), np.zeros((2, h8 * 4, w8 * 4), np.float32),
    )  # fmt: skip


def test_no_more_pictures_are_under_way_than_were_said_and_a_wrong_one_never_is():
    engine = Slow(in_flight=3)
    rgb = np.zeros((90, 160, 3), np.uint8)
    pending = [engine.submit(rgb, None)[0] for _ in range(3)]
    with pytest.raises(ValueError, match="uint8 RGB, got"):
        engine.submit(rgb.astype(np.float32), None)
    fourth = threading.Thread(target=lambda: pending.append(engine.submit(rgb, None)[0]))
    fourth.start()
    fourth.join(0.2)
    assert fourth.is_alive() and engine.begun <= 2  # by two workers, and one waits

    engine.allowed.set()
    fourth.join(30)
    assert [len(waiting.result()) for waiting in pending] == [0] * 4
    engine.close()


def test_a_picture_under_way_for_which_memory_ran_out_is_done_again():
    """And not the ones beside it."""
    engine, notes = Slow(in_flight=3), []
    engine.allowed.set()
    guarded = GuardedEngine(engine, tell=notes.append, note=notes.append)
    frames = [Frame(np.full((288, 512, 3), v, np.uint8), i, Fraction(1)) for i, v in
              enumerate((7, 13, 9))]  # fmt: skip
    engine.step = lambda rgb, state: (no_one(rgb.shape[:2]), state)

    found = list(matte(frames, guarded))

    assert [frame.pts for frame, _ in found] == [0, 1, 2]
    assert engine.begun == 3 and len(notes) == 1 and "out of memory (bad_alloc)" in notes[0]
    guarded.close()


@pytest.mark.skipif("openvino" not in HERE, reason="openvino is not installed")
def test_an_int8_network_that_is_missing_or_of_another_export_says_how_it_is_made(tmp_path):
    import openvino

    for name in ("live.onnx", "live.safetensors"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    with pytest.raises(EngineError, match=r"no int8 network there; make it with .*quantise"):
        load_engine(["openvino-int8"], tmp_path)

    model = openvino.Core().read_model(str(WEIGHTS / "live.onnx"))
    model.set_rt_info("of yesterday", ["troupe", "made_of"])
    openvino.save_model(model, str(tmp_path / "live.int8.xml"))
    with pytest.raises(EngineError, match="made of another export"):
        load_engine(["openvino-int8"], tmp_path)

    model.set_rt_info(digest(WEIGHTS / "live.onnx"), ["troupe", "made_of"])
    openvino.save_model(model, str(tmp_path / "live.int8.xml"))
    assert load_engine(["openvino-int8"], tmp_path).name == "openvino-int8"


@pytest.mark.skipif("openvino" not in HERE, reason="openvino is not installed")
def test_bfloat16_gives_nearly_the_mattes_float32_gives_or_says_it_cannot(loaded):
    rgb = demo_frame(160)
    try:
        engine = load_engine(["openvino-bf16"], WEIGHTS, threads=1)
    except EngineError as error:
        assert "does not compute in bfloat16" in str(error)
        return
    ours, theirs = (e.step(rgb, None)[0] for e in (engine, loaded["openvino"]))
    for a, b in zip(ours.alpha[:2], theirs.alpha[:2], strict=True):
        assert ((a > 0.5) & (b > 0.5)).sum() > 0.9 * ((a > 0.5) | (b > 0.5)).sum()


def test_a_network_that_sees_fewer_pixels_still_gives_mattes_of_the_pictures_size():
    rgb = demo_frame(160)
    engine = load_engine(["openvino"], WEIGHTS, pixels=86_016)

    mattes, _ = engine.step(rgb, engine.start())
    engine.close()

    assert engine.working_size(rgb.shape[:2]) == (224, 384) == working_size((540, 960), 86_016)
    assert len(mattes) and mattes.size == rgb.shape[:2] and mattes.codes.max() > 250
