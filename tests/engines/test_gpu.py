"""The GPU's pipeline on the lanes of a CPU: overlapped equals serial, bit for bit."""

import os
import random
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from engines import EngineError, build, load_engine, probe  # noqa: E402
from engines.base import LAG, due, passed_on  # noqa: E402
from engines.device_people import Shrinker  # noqa: E402
from engines.gpu import GpuEngine  # noqa: E402
from engines.guard import GuardedEngine  # noqa: E402
from engines.lanes import CudaLanes, SerialLanes, ThreadLanes  # noqa: E402
from engines.people import shrink, working_size  # noqa: E402
from engines.tensorrt_engine import TensorRtNetwork  # noqa: E402
from engines.torch_engine import TorchEngine, TorchNetwork, read_network  # noqa: E402
from matting.frames import UNTRACKED, Frame  # noqa: E402
from stream.snapshot import freeze, thaw  # noqa: E402
from stream.stages import matte  # noqa: E402
from tests.engines.fake_tensorrt import FakeTensorRT  # noqa: E402
from tests.engines.test_engines import demo_frame  # noqa: E402
from tests.engines.toy_network import three_people, toy_model  # noqa: E402

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"


def toy_network(memory=True, trt=None):
    trt = trt or FakeTensorRT()
    plan = build.compile_plan(
        trt, toy_model(memory).SerializeToString(), build.profiles(), say=lambda *_: None
    )
    return TensorRtNetwork(trt.__name__, trt, plan, "cpu", "make it")


def toy_engine(lanes, in_flight, **made):
    return GpuEngine(toy_network(**made), lanes, 0.3, in_flight)


def jittery(seed):
    """Sleeps now and then, each thread in its own way."""
    dice = random.Random(seed)
    lock = threading.Lock()

    def pause():
        with lock:
            wait = dice.choice([0, 0, 0, 0.001, 0.004])
        time.sleep(wait)

    return pause


def frames_of(pictures):
    return [Frame(rgb, i, Fraction(1, 30)) for i, rgb in enumerate(pictures)]


def parts(mattes):
    return mattes.alpha, mattes.coarse, mattes.score, mattes.box, mattes.code, mattes.ids


def test_overlapped_pictures_equal_serial_ones_bit_for_bit():
    pictures = [three_people(i) for i in range(16)]
    serial, state = [], None
    engine = toy_engine(SerialLanes(), 1)
    for rgb in pictures:
        mattes, state = engine.step(rgb, state)
        serial.append(mattes)

    overlapped = toy_engine(ThreadLanes(jittery(1)), 3)
    waiting, state = [], overlapped.start()
    for rgb in pictures:
        pending, state = overlapped.submit(rgb, state)
        waiting.append(pending)
    found = [pending.result() for pending in waiting]
    overlapped.close()

    assert [len(mattes) for mattes in serial] == [3] * 16
    assert serial[0].score[0] != serial[5].score[0]  # memory matters here
    for ours, theirs in zip(found, serial, strict=True):
        for a, b in zip(parts(ours), parts(theirs), strict=True):
            assert np.array_equal(a, b)


def test_a_lane_that_does_not_wait_gives_other_pictures():
    """The twin can fail: without its waits, the same run is not the serial one."""
    pictures = [three_people(i) for i in range(12)]
    serial = toy_engine(SerialLanes(), 1, memory=False)
    right = [serial.step(rgb, None)[0] for rgb in pictures]
    lanes = ThreadLanes(lambda: time.sleep(0.01 * (threading.current_thread().name == "upload")))
    engine = toy_engine(lanes, 3, memory=False)
    lanes.infer.after = lambda mark: None

    pending = [engine.submit(rgb, None)[0] for rgb in pictures]
    found = [p.result() for p in pending]
    engine.close()

    assert any(
        len(a) != len(b) or not np.array_equal(a.alpha, b.alpha)
        for a, b in zip(found, right, strict=True)
    )


def test_two_videos_may_take_turns_each_with_its_own_memory():
    first, second = ([three_people(i + at) for i in range(5)] for at in (0, 20))
    engine = toy_engine(ThreadLanes(jittery(3)), 3)
    alone = []
    for video in (first, second):
        state = engine.start()
        for rgb in video:
            mattes, state = engine.step(rgb, state)
            alone.append(mattes.score)

    states = [engine.start(), engine.start()]
    pending = []
    for pictures in zip(first, second, strict=True):
        for i, rgb in enumerate(pictures):
            waiting, states[i] = engine.submit(rgb, states[i])
            pending.append(waiting)
    turns = [p.result().score for p in pending]
    engine.close()

    for a, b in zip(alone, turns[::2] + turns[1::2], strict=True):
        assert np.array_equal(a, b)


def test_the_stage_keeps_pictures_under_way_and_their_order():
    engine = toy_engine(ThreadLanes(jittery(4)), 3)
    most = 0
    submit = engine.submit

    def counted(rgb, state):
        nonlocal most
        made = submit(rgb, state)
        most = max(most, sum(slot.pending is not None for slot in engine._slots))
        return made

    engine.submit = counted
    found = list(matte(frames_of([three_people(i) for i in range(9)]), engine))

    assert [frame.pts for frame, _ in found] == list(range(9))
    assert most == 3
    state = None
    for frame, mattes in found:
        again, state = engine.step(frame.rgb, state)
        assert np.array_equal(again.alpha, mattes.alpha)
    engine.close()


def test_what_was_returned_is_not_changed_by_later_pictures():
    engine = toy_engine(ThreadLanes(), 2)
    first, state = engine.step(three_people(0), None)
    kept = [np.copy(part) for part in parts(first)]
    for i in range(6):
        _, state = engine.step(three_people(17 * i, size=(120, 160)), None)

    assert all(np.array_equal(a, b) for a, b in zip(kept, parts(first), strict=True))
    engine.close()


def test_pictures_of_many_sizes_may_follow_one_another():
    engine = toy_engine(ThreadLanes(jittery(5)), 2, memory=False)
    serial = toy_engine(SerialLanes(), 1, memory=False)
    sizes = [(90, 160), (160, 90), (96, 128), (90, 160), (128, 96), (64, 200), (60, 240), (240, 60)]
    for size in sizes:
        ours, theirs = (e.step(three_people(3, size), None)[0] for e in (engine, serial))
        assert ours.alpha.shape[1:] == size
        assert np.array_equal(ours.alpha, theirs.alpha)
    engine.close()


def test_a_video_that_changes_its_size_begins_anew():
    engine = toy_engine(SerialLanes(), 1)
    state, turned = engine.start(), three_people(0, (160, 90))
    for _ in range(LAG):
        _, state = engine.step(three_people(0), state)
    found, _ = engine.step(turned, state)
    fresh, _ = engine.step(turned, engine.start())
    assert np.array_equal(found.score, fresh.score)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.uint8), np.zeros((8, 8, 4), np.uint8),
              np.zeros((8, 8, 3), np.float32)],
)  # fmt: skip
def test_a_picture_of_another_kind_is_refused_before_anything_is_enqueued(wrong):
    trt = FakeTensorRT()
    engine = toy_engine(SerialLanes(), 1, trt=trt)
    before = len(trt.calls)
    with pytest.raises(ValueError, match="uint8 RGB, got"):
        engine.submit(wrong, None)
    assert len(trt.calls) == before


def test_a_network_that_fails_under_way_says_so_to_whoever_waits():
    trt = FakeTensorRT()
    engine = toy_engine(ThreadLanes(), 2, trt=trt)
    trt.broken = "execute_async_v3"
    pending, _ = engine.submit(three_people(0), None)
    with pytest.raises(EngineError, match="did not run: out of fuel"):
        pending.result()
    with pytest.raises(EngineError, match="out of fuel"):
        pending.result()


@pytest.mark.parametrize("lanes", [SerialLanes, ThreadLanes])
def test_a_picture_of_nonsense_costs_itself_and_not_the_memory(lanes):
    """The mattes of the picture before stand in; the next ones are as if it had not been there."""
    trt, told = FakeTensorRT(), []
    plain = toy_engine(lanes(), 3, trt=trt)
    engine = GuardedEngine(plain, told.append, told.append)
    pictures = [three_people(i) for i in range(7)]
    state, right = plain.start(), []
    for i, rgb in enumerate(pictures):
        if i == 3:  # what it leaves is what it was told
            state = passed_on(state, due(state))
            continue
        mattes, state = plain.step(rgb, state)
        right.append(mattes)
    trt.nonsense_at = trt.runs + 3
    found = [mattes for _, mattes in matte(frames_of(pictures), engine)]
    plain.close()

    assert len(told) == 1 and told[0].startswith("frame 3:")
    assert np.array_equal(found[3].alpha, found[2].alpha)
    for ours, theirs in zip(found[:3] + found[4:], right, strict=True):
        assert np.array_equal(ours.alpha, theirs.alpha)


def test_what_a_video_remembers_can_be_kept_and_gone_on_with():
    """A run that is broken off is gone on with by another process (stream/resume.py)."""
    engine = toy_engine(ThreadLanes(), 2)
    state = engine.start()
    for _ in range(LAG):
        _, state = engine.step(three_people(0), state)
    kept = freeze(state, ("engines",))
    right, _ = engine.step(three_people(1), state)
    engine.close()

    another = toy_engine(SerialLanes(), 1)
    found, _ = another.step(three_people(1), thaw(kept, ("engines",)))
    fresh, _ = another.step(three_people(1), another.start())
    assert np.array_equal(found.score, right.score) and np.array_equal(found.alpha, right.alpha)
    assert not np.array_equal(fresh.score, right.score)


def test_memory_is_given_back_and_made_again():
    engine = toy_engine(ThreadLanes(), 2)
    before, _ = engine.step(three_people(0), None)
    engine.release()
    after, _ = engine.step(three_people(0), None)
    assert np.array_equal(before.alpha, after.alpha)
    engine.close()


def test_no_thread_is_left_when_an_engine_is_closed():
    before = threading.active_count()
    engine = toy_engine(ThreadLanes(), 3)
    engine.submit(three_people(0), None)
    engine.close()
    assert threading.active_count() == before


def test_memory_is_flat_over_many_pictures():
    """The device's memory belongs to slots; a run keeps asking for none."""
    lanes = SerialLanes()
    engine = toy_engine(lanes, 2)
    for _ in range(2):  # every slot has seen as many people as there will be
        engine.step(three_people(0), None)
    asked = []
    lanes.memory = lambda *a: asked.append(a)
    state = engine.start()
    for i in range(20):
        _, state = engine.step(three_people(i), state)
    assert asked == []


@pytest.mark.parametrize(
    ("size", "worst"),
    [((540, 960), 0), ((1080, 1920), 0), ((576, 1024), 0), ((333, 777), 1), ((290, 500), 1),
     ((100, 200), 1)],
)  # fmt: skip
def test_a_device_shrinks_pictures_as_opencv_does(size, worst):
    """Exactly where it averages; OpenCV's linear interpolation rounds its weights to 11 bits."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (size[0] // 7 + 2, size[1] // 7 + 2, 3), np.uint8)
    rgb = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    target = working_size(size)
    made = torch.zeros(1, *target, 3, dtype=torch.uint8)
    Shrinker(size, target, torch.device("cpu"))(torch.from_numpy(rgb), made)

    assert np.abs(made.numpy().astype(int) - shrink(rgb, target)).max() <= worst


def test_the_real_network_gives_the_mattes_the_cpu_engine_gives():
    rgb = demo_frame(190)
    theirs, _ = TorchEngine(WEIGHTS, 1, 0.3).step(rgb, None)
    network = TorchNetwork("torch-cuda", read_network(WEIGHTS), "cpu", "fp32")
    ours, _ = GpuEngine(network, SerialLanes(), 0.3, 1).step(rgb, None)

    assert len(ours) == len(theirs) and (ours.ids == UNTRACKED).all()
    assert np.abs(ours.score - theirs.score).max() < 1e-4
    assert np.abs(ours.coarse - theirs.coarse).max() < 1e-4
    gap = np.abs(ours.alpha - theirs.alpha)
    assert gap.max() < 0.05 and gap.mean() < 1e-4
    assert np.abs(ours.box - theirs.box).max() <= 4  # pixels
    assert ours.alpha.sum(0).max() <= 1 + 1e-5


# What follows needs a GPU: `make test-gpu`.

# bench/gpu.sh names those that the machine has; without it every one is asked for.
GPU_BACKENDS = os.environ.get("GPU_ENGINES", ",".join(sorted(probe.ON_GPU))).split(",")


def gpu_engine(name, **settings):
    """A backend on the GPU.  One that cannot run fails where REQUIRE_GPU=1, and is skipped else."""
    try:
        return load_engine([name], WEIGHTS, **settings)
    except EngineError as error:
        if os.environ.get("REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_gpu_float32_mattes_are_those_of_the_cpu(name):
    rgb = demo_frame(190)
    theirs, _ = TorchEngine(WEIGHTS, None, 0.3).step(rgb, None)
    engine = gpu_engine(name, precision="fp32")
    ours, _ = engine.step(rgb, engine.start())
    engine.close()

    assert len(ours) == len(theirs)
    # other kernels sum in another order, and slopes of 40 per unit of colour multiply it
    assert np.abs(ours.score - theirs.score).max() < 1e-2
    assert np.abs(ours.alpha - theirs.alpha).mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_gpu_float16_finds_the_same_people(name):
    rgb = demo_frame(190)
    theirs, _ = TorchEngine(WEIGHTS, None, 0.3).step(rgb, None)
    engine = gpu_engine(name)
    ours, _ = engine.step(rgb, engine.start())
    engine.close()

    sure = [m.pick(np.flatnonzero(m.score > 0.6)) for m in (ours, theirs)]
    assert len(sure[0]) == len(sure[1]) == 2
    assert np.abs(sure[0].alpha - sure[1].alpha).mean() < 5e-3


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_gpu_overlap_equals_serial_bit_for_bit(name):
    pictures = [demo_frame(at) for at in (0, 40, 80, 120, 160, 190)] * 3
    serial = gpu_engine(name, in_flight=1)
    right, state = [], serial.start()
    for rgb in pictures:
        mattes, state = serial.step(rgb, state)
        right.append(mattes)
    serial.close()
    engine = gpu_engine(name, in_flight=4)
    found, state = [], engine.start()
    for rgb in pictures:
        pending, state = engine.submit(rgb, state)
        found.append(pending)

    for pending, theirs in zip(found, right, strict=True):
        for a, b in zip(parts(pending.result()), parts(theirs), strict=True):
            assert np.array_equal(a, b)
    engine.close()


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_BACKENDS)
def test_gpu_soak_of_a_thousand_pictures_has_equal_mattes_and_flat_memory(name):
    engine = gpu_engine(name)
    pictures = [demo_frame(at) for at in range(0, 200, 20)]
    first: list[np.ndarray] = []
    waiting, used = [], {}
    for i in range(1000):
        pending, _ = engine.submit(pictures[i % 10], engine.start())  # no memory between them
        waiting.append((i, pending))
        if len(waiting) > engine.in_flight - 1:
            number, done = waiting.pop(0)
            alpha = done.result().alpha
            if number < 10:
                first.append(alpha.copy())
            assert np.array_equal(alpha, first[number % 10]), number
            used[number] = torch.cuda.memory_allocated()
    assert max(used[n] for n in used if n > 500) <= max(used[n] for n in used if n < 100)
    engine.close()


@pytest.mark.gpu
def test_gpu_streams_run_beside_each_other():
    """A copy and a long kernel on two lanes take less than one after the other."""
    lanes = CudaLanes("cuda")
    a = torch.randn(8192, 8192, device="cuda")
    host = lanes.host_memory((1 << 28,), torch.uint8)
    there = lanes.memory((1 << 28,), torch.uint8)
    torch.cuda.synchronize()

    def run(together):
        begun = time.perf_counter()
        lanes.infer.do(lambda: [a @ a for _ in range(8)])
        if not together:
            lanes.infer.finish()
        lanes.upload.do(lambda: there.copy_(host, non_blocking=True))
        lanes.infer.finish()
        lanes.upload.finish()
        return time.perf_counter() - begun

    run(True), run(False)  # warm
    assert min(run(True) for _ in range(5)) < 0.9 * min(run(False) for _ in range(5))
