"""Sinks: what leaves the program arrives whole, and what breaks on the way breaks alone."""

import json
import socket
import sys
import threading
import time
import types
from fractions import Fraction

import av
import numpy as np
import pytest

from matting.frames import Frame
from stream import sinks as room
from stream.camera import LiveSource
from stream.decode import InputError
from stream.encode import OutputError
from stream.finalize import Wishes, deliver
from stream.sinks import Recording, Shown, StreamSink, VirtualCamera, Window
from tests.fakes import COLOURS, TWO, SquaresEngine, named, picture
from tests.stream.test_live import until

STILL = tuple(type(square)(square.colour, square.at, (0, 0)) for square in TWO)


def shown(index, size=(96, 160), mattes=None):
    rgb = picture(0, STILL, size)
    frame = Frame(rgb, index * 3000, Fraction(1, 90_000))
    found = named(SquaresEngine().step(rgb, 0)[0]) if mattes is None else mattes
    return Shown(frame, found, rgb, time.monotonic(), time.monotonic())


def fed(sink, count, pause=0.02, first=0):
    for index in range(first, first + count):
        sink.put(shown(index))
        time.sleep(pause)


def looks_right(frame):
    rgb = frame.to_ndarray(format="rgb24").astype(int)
    return (
        np.abs(rgb[28, 20] - COLOURS["red"]).max() < 50
        and np.abs(rgb[60, 112] - COLOURS["green"]).max() < 50
    )


class Listener(threading.Thread):
    """The far side: FFmpeg waiting for a stream, as a media server does."""

    def __init__(self, uri, **options):
        super().__init__(daemon=True)
        self.uri, self.options, self.frames, self.problem = uri, options, [], None
        self.start()

    def run(self):
        try:
            with av.open(self.uri, options=self.options, timeout=(20, 5)) as container:
                for frame in container.decode(video=0):
                    self.frames.append(frame)
        except Exception as error:
            self.problem = error


def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.mark.parametrize("kind", ["rtmp", "rtsp", "tcp", "udp"])
def test_a_stream_arrives_at_a_real_listener(kind):
    number = port()
    uris = {
        "rtmp": (f"rtmp://127.0.0.1:{number}/live/x", {"listen": "1", "probesize": "50000"}),
        "rtsp": (
            f"rtsp://127.0.0.1:{number}/live",
            {"rtsp_flags": "listen", "listen_timeout": "20"},
        ),
        "tcp": (f"tcp://127.0.0.1:{number}?listen=1", {"probesize": "50000"}),
        "udp": (f"udp://127.0.0.1:{number}?fifo_size=100000", {"probesize": "50000"}),
    }
    uri, options = uris[kind]
    far = Listener(uri, **options)
    time.sleep(0.5)

    sink = StreamSink(uri.partition("?")[0])
    try:
        end = time.monotonic() + 25
        index = 0
        while len(far.frames) < 12 and time.monotonic() < end:
            sink.put(shown(index))
            index += 1
            time.sleep(0.03)
        assert len(far.frames) >= 12, f"{sink.status()} {far.problem}"
    finally:
        sink.close()

    assert looks_right(far.frames[-1])
    far.join(8)


def test_a_listener_that_comes_late_or_goes_is_found_again(monkeypatch):
    monkeypatch.setattr(room, "FIRST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(room, "LONGEST_WAIT_SECONDS", 0.3)
    number = port()
    sink = StreamSink(f"tcp://127.0.0.1:{number}")
    try:
        fed(sink, 10)
        assert until(lambda: sink.state == "retrying")
        assert sink.problem

        for _ in range(2):  # the second one after the first has hung up
            with socket.create_server(("127.0.0.1", number)) as server:
                server.settimeout(20)
                feeder = threading.Thread(target=fed, args=(sink, 100), daemon=True)
                feeder.start()
                connection, _ = server.accept()
                assert connection.recv(188)[:1] == b"\x47"  # MPEG-TS
                connection.close()
            feeder.join()
    finally:
        sink.close()


def test_a_password_is_not_repeated_when_a_stream_fails():
    sink = StreamSink(f"rtmp://anna:s3cret@127.0.0.1:{port()}/live/streamkey99")
    try:
        fed(sink, 3)
        assert until(lambda: sink.state == "retrying")
        told = str(sink.status()) + sink._thread.name
    finally:
        sink.close()

    assert "s3cret" not in told and "anna" not in told


def test_a_file_can_be_read_up_to_its_last_moment_and_is_never_replaced(tmp_path):
    path = tmp_path / "out.mkv"
    sink = StreamSink(str(path))
    fed(sink, 30, 0.03)
    time.sleep(0.7)
    with av.open(str(path)) as container:  # while it is being written
        half = sum(1 for _ in container.decode(video=0))
    sink.close()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))

    assert half > 0
    assert len(frames) == sink.frames >= 5
    assert looks_right(frames[-1])
    with pytest.raises(OutputError, match="never replaces"):
        StreamSink(str(path))


@pytest.mark.parametrize("uri", ["out.mp4", "nowhere/out.mkv", "ftp://example.org/x"])
def test_places_that_cannot_work_are_refused_at_once(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, OutputError)):
        StreamSink(uri)


def test_a_full_disk_ends_that_file_and_nothing_else(tmp_path, monkeypatch):
    sink = StreamSink(str(tmp_path / "out.mkv"))
    fed(sink, 3)

    def full(self, shown):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StreamSink, "_write", full)
    fed(sink, 3)

    assert until(lambda: sink.state == "failed")
    assert "No space left" in sink.problem
    sink.close()


def test_a_stream_follows_a_change_of_size(tmp_path):
    sink = StreamSink(f"udp://127.0.0.1:{port()}")
    fed(sink, 3)
    sink.put(shown(9, (120, 200)))

    assert until(lambda: sink.frames >= 2 and sink.state == "running")
    sink.close()
    assert sink.problem == ""


# -------------------------------------------------------------------------------- recordings


def test_a_recording_keeps_every_picture_in_order_with_its_own_time(tmp_path):
    with LiveSource("browser") as source:
        recording = Recording(tmp_path / "take", source, {"engine": "squares"})
        for index in range(40):
            recording.put(shown(index + 7))
        recording.close()

    assert (recording.frames, recording.dropped, recording.state) == (40, 0, "closed")
    with av.open(str(tmp_path / "take" / "composite.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index / 30 for index in range(40)], abs=1e-3)
    with av.open(str(tmp_path / "take" / "alpha.mkv")) as container:
        assert len(container.streams.video) == 2


def test_names_given_while_it_ran_are_the_names_of_the_recording(tmp_path):
    with LiveSource("browser") as source:
        recording = Recording(tmp_path / "take", source, {"engine": "squares"})
        for index in range(5):
            recording.put(shown(index))
        recording.names.update({1: "Anna/Bo", 2: "Anna/Bo", 9: "left before"})
        recording.close()

    assert (recording.state, recording.problem) == ("closed", "")
    told = json.loads((tmp_path / "take" / "people.json").read_text())
    assert [person["name"] for person in told["people"]] == ["Anna_Bo", "Anna_Bo 2"]
    assert told["about"]["names"] == {"1": "Anna/Bo", "2": "Anna/Bo", "9": "left before"}
    with av.open(str(tmp_path / "take" / "alpha.mkv")) as container:
        titles = [stream.metadata["title"] for stream in container.streams.video]
    assert titles == ["Anna_Bo", "Anna_Bo 2"]


def test_deliverables_of_mattes_alone_are_made_of_a_recording_and_the_others_say_what_is_missing(
    tmp_path,
):
    with LiveSource("browser") as source:
        recording = Recording(tmp_path / "take", source, {"engine": "squares"})
        for index in range(5):
            recording.put(shown(index))
        recording.close()

    made = deliver(tmp_path / "take", Wishes(("matte", "disco")))
    with pytest.raises(InputError, match=r"not the camera's pictures, which nle and comp.*matte"):
        deliver(tmp_path / "take", Wishes(("nle", "matte", "comp")))

    assert (made.frames, made.people, len(made.paths)) == (5, 2, 3)
    first = next(path for path in made.paths if path.name.endswith("person_0001.mp4"))
    with av.open(str(first)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[-1][28, 20] > 250 and frames[-1][60, 112] < 5


def test_a_recording_that_cannot_keep_up_says_how_much_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "BACKLOG", 5)
    slow = Recording._write

    def write(self, shown):
        time.sleep(0.05)
        slow(self, shown)

    monkeypatch.setattr(Recording, "_write", write)
    with LiveSource("browser") as source:
        recording = Recording(tmp_path / "take", source, {})
        for index in range(30):
            recording.put(shown(index))
        recording.close()

    assert recording.frames + recording.dropped == 30 and recording.dropped > 0
    assert f"{recording.dropped} pictures" in (tmp_path / "take" / "people.json").read_text()


def test_a_recording_into_a_place_that_is_taken_fails_alone(tmp_path):
    (tmp_path / "take").mkdir()
    (tmp_path / "take" / "people.json").write_text("{}")
    with LiveSource("browser") as source:
        recording = Recording(tmp_path / "take", source, {})
        recording.put(shown(0))
        assert until(lambda: recording.state == "failed")
        recording.close()

    assert "exists already" in recording.problem


# ----------------------------------------------------------------- virtual camera and window


class FakeCameras(types.ModuleType):
    """In place of pyvirtualcam, which needs a kernel module: keeps what is sent."""

    class PixelFormat:
        RGB = "rgb"

    def __init__(self):
        super().__init__("pyvirtualcam")
        made = self.made = []
        self.broken = False
        outer = self

        class Camera:
            def __init__(self, **about):
                if outer.broken:
                    raise RuntimeError("'obs' backend: OBS Virtual Camera device not found")
                self.about, self.sent, self.closed = about, [], False
                made.append(self)

            def send(self, rgb):
                if outer.broken:
                    raise RuntimeError("the device has gone")
                self.sent.append(rgb)

            def close(self):
                self.closed = True

        self.Camera = Camera


def test_a_virtual_camera_gets_every_picture_and_the_last_one_again(monkeypatch):
    cameras = FakeCameras()
    monkeypatch.setitem(sys.modules, "pyvirtualcam", cameras)
    monkeypatch.setattr(room, "FIRST_WAIT_SECONDS", 0.05)
    sink = VirtualCamera("/dev/video10")
    fed(sink, 3)
    assert until(lambda: cameras.made and len(cameras.made[0].sent) > 5)  # silent cameras are lost
    camera = cameras.made[0]

    assert camera.about["width"] == 160 and camera.about["height"] == 96
    assert camera.about["device"] == "/dev/video10" and camera.about["fmt"] == "rgb"
    assert np.array_equal(camera.sent[-1], picture(0, STILL))

    cameras.broken = True
    assert until(lambda: sink.state == "retrying")
    cameras.broken = False
    fed(sink, 20, 0.05, first=50)
    assert until(lambda: sink.state == "running")
    sink.close()
    assert all(camera.closed for camera in cameras.made)


def test_without_the_package_the_virtual_camera_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(InputError, match=r"pip install '\.\[live\]'"):
        VirtualCamera()


def test_an_opencv_without_windows_says_what_to_do_instead():
    import cv2

    if "NONE" not in next(line for line in cv2.getBuildInformation().splitlines() if "GUI" in line):
        pytest.skip("this OpenCV has windows")
    with pytest.raises(InputError, match="--serve"):
        Window()
