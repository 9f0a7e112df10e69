"""The page's server: what the page asks for happens, and nobody else may ask."""

import json
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from urllib.parse import quote

import av
import cv2
import httpx
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from matting.frames import Frame
from stream.camera import LiveSource, Wanted
from stream.live import Live, Wishes
from stream.sinks import Shown
from tests.fakes import (
    COLOURS,
    TWO,
    ColourTracker,
    Square,
    SquaresEngine,
    picture,
    until,
    write_clip,
)  # fmt: skip
from web.hub import Hub, message, who_is_where
from web.server import Desk, Page, application
from web.uploads import Library, UploadError

STILL = tuple(Square(square.colour, square.at, (0, 0)) for square in TWO)


class Session:
    """A live session with its page, served on a port of this machine."""

    def __init__(self, source, folder, wishes=None, megabytes=5, token=None, names=()):
        self.library = Library(megabytes)
        self.hub = Hub(720, 90)
        self.live = Live(source, SquaresEngine(), ColourTracker,
                         wishes=wishes or Wishes("keep"), sinks=[self.hub])  # fmt: skip
        self.desk = Desk(self.live, self.hub, self.library, folder)
        self.app = application(self.desk, token=token, names=names)
        self.page = Page(self.app, "127.0.0.1", 0)
        self.client = httpx.Client(base_url=self.page.url)

    def socket(self, path, **headers):
        return connect(f"ws://127.0.0.1:{self.page.port}{path}", additional_headers=headers,
                       compression=None)  # fmt: skip

    def __enter__(self):
        self.live.start()
        return self

    def __exit__(self, *exc):
        self.client.close()
        self.live.close()
        self.page.close()
        self.library.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("web") / "still.mp4", frames=60, squares=STILL)


@pytest.fixture
def session(clip, tmp_path):
    with Session(LiveSource(str(clip), Wanted(loop=True)), tmp_path / "recordings") as made:
        assert until(lambda: len(made.live.people) == 2)
        yield made


def png(rgb=(0, 0, 255), size=(90, 160)):
    bgr = np.full((*size, 3), rgb[::-1], np.uint8)
    return cv2.imencode(".png", bgr)[1].tobytes()


def parsed(data):
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    rows, columns = header["map"]
    places = np.frombuffer(data[4 + length :][: rows * columns], np.uint8).reshape(rows, columns)
    jpeg = np.frombuffer(data[4 + length + rows * columns :], np.uint8)
    return header, places, cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def colour_at(rgb, square):
    return rgb[round(square.at[0]) + 12, round(square.at[1]) + 12].astype(int)


def shown(session, wanted, view="result", seconds=10):
    """The first picture that `wanted` says yes to: (header, places, rgb)."""
    with session.socket(f"/api/live?view={view}") as live:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told = live.recv(5)
            if isinstance(told, bytes):
                found = parsed(told)
                live.send(json.dumps({"drawn": found[0]["sequence"]}))
                if wanted(*found):
                    return found
    raise AssertionError("no such picture came")


# ---------------------------------------------------------------------------- what is seen


def test_pictures_come_with_people_and_where_they_are(session):
    header, places, rgb = shown(session, lambda header, *_: len(header["people"]) == 2)

    assert [person["id"] for person in header["people"]] == [1, 2]
    assert rgb.shape == (96, 160, 3)
    assert places[(16 + 12) // 8, (8 + 12) // 8] == 1
    assert places[(48 + 12) // 8, (100 + 12) // 8] == 2
    assert places[0, 10] == 0
    assert np.abs(colour_at(rgb, STILL[0]) - COLOURS["red"]).max() < 50


def test_the_cut_out_is_people_and_their_alpha_and_nothing_else(session):
    header, _, rgb = shown(session, lambda h, p, rgb: rgb[96:].max() > 200, "cutout")
    colours, alpha = rgb[:96], rgb[96:, :, 0]

    assert header["alpha"]
    assert alpha[28, 20] > 240 and alpha[60, 112] > 240 and alpha[4, 80] < 15
    assert np.abs(colours[28, 20].astype(int) - COLOURS["red"]).max() < 50
    assert colours[4, 80].max() < 15  # what lies behind people is not even sent


def test_someone_hidden_is_not_in_the_cut_out(session):
    session.client.post("/api/people/1", json={"treatment": "remove"})

    _, _, rgb = shown(session, lambda h, p, rgb: rgb[96 + 60, 112, 0] > 200, "cutout")

    assert rgb[96 + 28, 20, 0] < 15


def test_a_viewer_that_draws_nothing_gets_no_more_than_two_pictures(session):
    with session.socket("/api/live") as live:
        binary = 0
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            binary += isinstance(live.recv(5), bytes)
    assert binary == 2


def test_the_age_of_a_picture_on_the_page_is_measured(session):
    with session.socket("/api/live") as live:
        end, delay = time.monotonic() + 10, None
        while delay is None and time.monotonic() < end:
            told = live.recv(5)
            if isinstance(told, bytes):
                live.send(json.dumps({"drawn": parsed(told)[0]["sequence"]}))
            else:
                delay = json.loads(told)["figures"]["page_ms"]
    assert 0 < delay < 5000


def test_state_tells_everything_and_no_path_of_this_machine(session, clip):
    assert until(lambda: session.live.shown > 5)
    answer = session.client.get("/api/state")
    state = answer.json()

    assert str(clip.parent) not in answer.text
    assert [person["id"] for person in state["people"]] == [1, 2]
    assert state["engine"] == "squares"
    assert state["source"]["state"] == "playing"
    assert state["figures"]["frames_per_second"] > 0
    face = session.client.get("/api/people/1.jpg")
    assert face.headers["content-type"] == "image/jpeg" and face.content[:2] == b"\xff\xd8"


# ------------------------------------------------------------------------------ what is done


def test_blurring_one_person_changes_that_one_and_not_the_other(session):
    before = shown(session, lambda h, *_: len(h["people"]) == 2)[2]
    answer = session.client.post("/api/people/1", json={"treatment": "remove"})
    after = shown(session, lambda h, p, rgb: np.abs(
        colour_at(rgb, STILL[0]) - colour_at(before, STILL[0])).max() > 60)[2]  # fmt: skip

    assert answer.json()["people"][0]["treatment"] == "remove"
    assert np.abs(colour_at(after, STILL[1]) - colour_at(before, STILL[1])).max() < 12


def test_names_edges_and_backgrounds_are_kept_and_told(session):
    session.client.post("/api/people/2", json={"name": "  Zoë "})
    session.client.post("/api/look", json={"edges": {"feather": 4}, "background": "#00b140"})
    state = session.client.post("/api/look", json={"edges": {"expand": -2}}).json()

    assert state["people"][1]["name"] == "Zoë"
    assert state["edges"] == {"feather": 4.0, "expand": -2.0}
    assert state["background"] == "#00b140"
    rgb = shown(session, lambda h, p, rgb: rgb[4, 80, 1] > 150)[2]
    assert rgb[4, 80, 0] < 40


@pytest.mark.parametrize(
    "path, about, status",
    [
        ("/api/people/1", {"treatment": "/etc/passwd"}, 400),
        ("/api/people/1", {"treatment": "upload:../../etc/passwd"}, 404),
        ("/api/people/1", {"treatment": ["keep"]}, 400),
        ("/api/people/99", {"treatment": "keep"}, 404),
        ("/api/look", {"background": "http://example.org/x.png"}, 400),
        ("/api/look", {"background": "remove"}, 400),
        ("/api/look", {"edges": {"feather": 1e9}}, 400),
        ("/api/look", {"edges": {"feather": "soft"}}, 400),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(session, path, about, status):
    answer = session.client.post(path, json=about)

    assert answer.status_code == status
    assert len(answer.json()["error"]) > 10
    assert session.live.wishes == Wishes("keep")


def test_a_request_that_is_no_json_object_is_refused(session):
    post = session.client.post

    assert post("/api/look", content=b"background=keep").status_code == 415
    text = {"content-type": "application/json"}
    assert post("/api/look", content=b"[1]", headers=text).status_code == 400
    assert post("/api/look", content=b"{" * 20000, headers=text).status_code == 413


def test_a_recording_has_everyones_track_and_can_be_downloaded(session, tmp_path):
    def post(on):
        return session.client.post("/api/recording", json={"on": on}).json()

    session.client.post("/api/people/1", json={"name": "Anna"})
    assert post(True)["recording"]["state"] in ("waiting", "running")
    assert until(lambda: session.live.recording.frames >= 8)
    done = post(False)["recordings"][0]

    names = {file["name"] for file in done["files"]}
    assert {"alpha.mkv", "composite.mp4", "people.json"} <= names
    assert done["people"] == [1, 2]
    for name, tracks in (("alpha.mkv", 2), ("composite.mp4", 1)):
        answer = session.client.get(f"/api/recordings/{done['name']}/{name}")
        assert "attachment" in answer.headers["content-disposition"]
        (tmp_path / name).write_bytes(answer.content)
        with av.open(str(tmp_path / name)) as container:
            assert len(container.streams.video) == tracks
            frames = list(container.decode(video=0))
        assert len(frames) == done["frames"]
    alpha = frames = None
    with av.open(str(tmp_path / "alpha.mkv")) as container:
        alpha = next(iter(container.decode(video=0))).to_ndarray(format="gray")
    assert alpha[28, 20] == 255 and alpha[60, 112] == 0
    about = session.client.get(f"/api/recordings/{done['name']}/people.json").json()
    assert about["about"]["names"] == {"1": "Anna"}
    assert session.client.get(f"/api/recordings/{done['name']}/../x").status_code == 404


# ------------------------------------------------------------------------------ backgrounds


def test_a_picture_that_is_sent_can_stand_behind_someone(session):
    answer = session.client.post("/api/backgrounds", content=png(), headers={
        "x-name": quote("../../Strand ü.png")})  # fmt: skip
    made = answer.json()

    assert answer.status_code == 201
    assert made["state"]["library"][0] == {
        "id": made["id"], "name": "../../Strand ü.png", "kind": "picture", "thumbnail": True
    }  # fmt: skip
    session.client.post("/api/look", json={"background": f"upload:{made['id']}"})
    shown(session, lambda h, p, rgb: rgb[4, 80, 2] > 200 and rgb[4, 80, 0] < 40)
    state = session.client.delete(f"/api/backgrounds/{made['id']}").json()
    assert state["background"] == "keep" and state["library"] == []


def test_a_banner_that_is_sent_can_stand_behind_someone(session):
    banner = png((200, 200, 200), (20, 700))
    made = session.client.post("/api/backgrounds", content=banner).json()
    answer = session.client.post("/api/look", json={"background": f"upload:{made['id']}"})
    assert answer.status_code == 200
    shown(session, lambda h, p, rgb: (rgb[4, 80] > 180).all())


def test_a_video_that_is_sent_is_written_anew_without_what_else_was_in_it(session, tmp_path):
    clip = write_clip(tmp_path / "beach.mp4", frames=12, audio="aac", metadata={"location": "home"})

    made = session.client.post("/api/backgrounds", content=clip.read_bytes()).json()
    kept = session.library.get(made["id"])

    assert kept.kind == "video"
    with av.open(str(kept.path)) as container:
        assert not container.streams.audio
        assert "home" not in str(container.metadata)
        assert len(list(container.decode(video=0))) == 12


def test_too_much_is_refused_before_and_while_it_comes(session):
    large = b"\x89PNG" + b"0" * 5_100_000

    def pieces():
        for at in range(0, len(large), 100_000):
            yield large[at : at + 100_000]

    told = session.client.post("/api/backgrounds", content=large)
    untold = session.client.post("/api/backgrounds", content=pieces())

    assert told.status_code == untold.status_code == 413
    assert "5 MB" in told.json()["error"]
    assert [p for p in session.library._folder.iterdir() if p.name.startswith("incoming")] == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"just some text, and no picture at all",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\0\xea\x60" * 2 + b"\x08\x02\0\0\0" + b"0" * 99,
    ],
    ids=["empty", "text", "m3u8", "concat", "bomb"],
)  # fmt: skip
def test_files_that_are_no_picture_or_want_to_be_more_are_refused(session, data):
    answer = session.client.post("/api/backgrounds", content=data)

    assert answer.status_code == 400
    assert "incoming" not in answer.text and str(session.library._folder) not in answer.text
    assert session.library.items == []


def test_the_other_process_has_little_memory():
    """A decoder that asks for more than its share gets none, instead of taking the machine's."""
    code = (
        "from web.decode_upload import limit; limit()\n"
        "import numpy\n"
        "try: numpy.ones(4 << 30, numpy.uint8)\n"
        "except MemoryError: print('refused')"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert run.stdout.strip() == "refused", run.stderr


def test_the_library_holds_no_more_than_it_may(session, monkeypatch):
    monkeypatch.setattr("web.uploads.MOST_ITEMS", 0)
    with pytest.raises(UploadError, match="remove one"):
        session.library.check_room("5")


# -------------------------------------------------------------------------- a browser's camera


def test_a_browser_can_be_the_camera_one_at_a_time(tmp_path):
    jpeg = cv2.imencode(".jpg", picture(0, STILL)[:, :, ::-1])[1].tobytes()
    with Session(LiveSource("browser"), tmp_path) as session:
        with session.socket("/api/camera") as camera:
            for _ in range(60):
                camera.send(jpeg)
                assert camera.recv(5)
                if len(session.live.people) == 2:
                    break
            assert session.client.get("/api/state").json()["camera_taken"]
            with (
                session.socket("/api/camera") as second,
                pytest.raises(ConnectionClosed) as refused,
            ):
                second.recv(5)
            assert "another page" in refused.value.rcvd.reason
        assert until(lambda: session.live.source.state == "lost")
        assert len(session.live.people) == 2
        assert until(lambda: not session.client.get("/api/state").json()["camera_taken"])


def test_what_is_no_small_jpeg_is_not_taken_from_a_camera(tmp_path):
    with Session(LiveSource("browser"), tmp_path) as session:
        for data in (png(), b"\xff\xd8\xff" + b"0" * 200, b""):
            with session.socket("/api/camera") as camera:
                camera.send(data)
                with pytest.raises(ConnectionClosed):
                    camera.recv(5)
            assert until(lambda: not session.desk._camera_taken.locked())
        assert session.live.source.received == 0


# ------------------------------------------------------------------------------ who may ask


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.9:8765"])
def test_other_names_for_this_machine_are_refused(session, host):
    assert session.client.get("/api/state", headers={"host": host}).status_code == 421
    assert session.client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:1", "[::1]:8765", "studio.local"])
def test_our_own_names_are_not(clip, tmp_path, host):
    session = Session(LiveSource("browser"), tmp_path, names=("Studio.local",))
    with session:
        assert session.client.get("/api/state", headers={"host": host}).status_code == 200


def test_other_websites_can_neither_post_nor_listen(session):
    foreign = {"origin": "https://evil.example"}
    own = {"origin": session.page.url.rstrip("/")}

    for method, path in (("POST", "/api/look"), ("POST", "/api/backgrounds"),
                         ("DELETE", "/api/backgrounds/x"), ("POST", "/api/recording")):  # fmt: skip
        assert session.client.request(method, path, headers=foreign, json={}).status_code == 403
        assert session.client.request(method, path, headers={"origin": "null"}).status_code == 403
    for path in ("/api/live", "/api/camera"):
        with pytest.raises(InvalidStatus), session.socket(path, **foreign):
            pass
    assert session.client.post("/api/look", headers=own, json={}).status_code == 200
    assert session.live.recording is None


def test_nothing_invites_other_sites(session):
    answer = session.client.get("/", headers={"origin": "https://evil.example"})

    assert not any(name.startswith("access-control") for name in answer.headers)
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_with_a_token_nothing_is_told_without_it(clip, tmp_path):
    token = "a-token-of-some-length"
    with Session(LiveSource("browser"), tmp_path, token=token) as session:
        client = session.client
        host = {"host": "192.168.1.5:8765"}
        for path in ("/", "/app.js", "/api/state", "/obs", "/api/state?token=wrong"):
            assert client.get(path, headers=host).status_code == 401
        with pytest.raises(InvalidStatus), session.socket("/api/live"):
            pass
        welcome = client.get(f"/?token={token}&rows=9", headers=host, follow_redirects=False)
        cookie = welcome.headers["set-cookie"]

        assert welcome.status_code == 303 and welcome.headers["location"] == "/?rows=9"
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        client.cookies.clear()
        with_cookie = {**host, "cookie": cookie.partition(";")[0]}
        assert client.get("/api/state", headers=with_cookie).status_code == 200
        bearer = {**host, "authorization": f"Bearer {token}"}
        assert client.get("/api/state", headers=bearer).status_code == 200
        assert (
            client.get("/api/state", headers={**bearer, "host": "evil.example"}).status_code == 421
        )


# ------------------------------------------------------------------------------- real sockets


def test_the_real_server_serves_and_stops_and_a_taken_port_is_told(session):
    from stream.encode import OutputError

    with Page(session.app, "127.0.0.1", 0) as page:
        assert httpx.get(page.url).status_code == 200
        assert "text/javascript" in httpx.get(page.url + "app.js").headers["content-type"]
        with pytest.raises(OutputError, match="another --port"):
            Page(session.app, "127.0.0.1", page.port)
        busy = threading.active_count()
    assert threading.active_count() < busy
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", page.port)) != 0


def test_every_file_of_the_page_is_served_and_none_else(session):
    from web.server import FILES, PAGE
    from web.wall import FILES as WALL

    assert {PAGE / name for name in (*FILES.values(), *WALL.values())} == set(PAGE.iterdir())
    for path in FILES:
        assert session.client.get(path).status_code == 200
    for path in (
        "/../server.py",
        "/%2e%2e/server.py",
        "/page/app.js",
        "/api/backgrounds/%2e%2e.jpg",
    ):
        assert session.client.get(path).status_code == 404


def test_a_map_gives_every_cell_to_who_is_most_there(session):
    engine = SquaresEngine()
    mattes, _ = engine.step(picture(), 0)

    frame = Frame(picture(), 0, Fraction(1, 90000))
    it = Shown(frame, mattes.named(np.array([4, 9])), frame.rgb, 0.0, 0.0)

    assert who_is_where(it, (12, 20))[28 // 8, 20 // 8] == 1
    header, _, rgb = parsed(message(it, "source", 48, 80, 7))
    assert rgb.shape == (48, 80, 3) and header["size"] == [96, 160]
    assert [person["id"] for person in header["people"]] == [4, 9]
