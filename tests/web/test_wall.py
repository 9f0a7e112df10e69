"""The wall: sources come and go through the page, and each has a page of its own behind it."""

import json

import httpx
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from configs.schema import LiveSettings
from stream.camera import LiveSource, Wanted
from stream.live import Live, Wishes
from stream.many import Many
from tests.fakes import ColourTracker, SquaresEngine, picture
from tests.web.test_server import parsed, until
from web.server import Page
from web.wall import Wall, wall_application


class Session:
    """Two sources of pushed pictures, and their wall on a port of this machine."""

    def __init__(self, folder, token=None):
        self.many = Many(SquaresEngine(), self.made)
        for name in ("door", "desk"):
            self.many.add(name, "browser")
        self.wall = Wall(self.many, folder, LiveSettings(), Wanted())
        self.page = Page(wall_application(self.wall, token=token), "127.0.0.1", 0)
        self.client = httpx.Client(base_url=self.page.url)

    @staticmethod
    def made(name, uri, seat):
        return Live(LiveSource(uri), seat, ColourTracker, wishes=Wishes("keep"), take=seat.take)

    def show(self, name, count=3):
        live = self.many.get(name)
        for _ in range(count):
            before = live.shown
            live.source.push(picture())
            assert until(lambda was=before: live.shown > was)

    def socket(self, path):
        return connect(f"ws://127.0.0.1:{self.page.port}{path}", compression=None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.close()
        self.many.close()
        self.page.close()
        self.wall.close()


@pytest.fixture
def session(tmp_path):
    with Session(tmp_path) as made:
        yield made


def test_the_wall_lists_every_source_with_its_own_figures(session):
    session.show("door", 4)
    session.show("desk", 2)

    told = session.client.get("/api/sources").json()

    assert told["engine"] == "squares"
    figures = [(one["name"], one["shown"], one["turns"], one["people"]) for one in told["sources"]]
    assert figures == [("door", 4, 4, 2), ("desk", 2, 2, 2)]
    for path in ("/", "/wall.js", "/picture.js", "/style.css", "/icon.svg"):
        assert session.client.get(path).status_code == 200


def test_a_sources_own_page_shows_and_changes_that_source_alone(session):
    session.show("door")
    session.show("desk")
    client = session.client
    for path in ("", "obs", "app.js", "api/state"):
        assert client.get(f"/sources/door/{path}").status_code == 200
    assert client.get("/sources/door").headers["location"].endswith("/sources/door/")

    with session.socket("/sources/door/api/live?view=result&rows=90") as live:
        session.show("door")
        while not isinstance(told := live.recv(10), bytes):
            assert json.loads(told)["running"]
    said = client.post("/sources/door/api/look", json={"background": "#0000ff"})

    assert said.status_code == 200 and said.json()["background"] == "#0000ff"
    assert client.get("/sources/desk/api/state").json()["background"] == "keep"
    assert {person["id"] for person in parsed(told)[0]["people"]} == {1, 2}
    assert np.abs(parsed(told)[2].mean() - picture().mean()) < 12


def test_each_source_records_into_a_folder_of_its_name(session, tmp_path):
    session.show("door")
    for on in (True, False):
        session.client.post("/sources/door/api/recording", json={"on": on})
        if on:
            session.show("door")

    (folder,) = (tmp_path / "door").iterdir()
    assert (folder / "people.json").is_file() and not (tmp_path / "desk").exists()


def test_sources_are_added_and_removed_while_the_others_run(session):
    client = session.client
    session.show("door")

    added = client.post("/api/sources", json={"name": "hall", "source": "browser"})
    assert added.status_code == 201
    session.show("hall")
    live, hub = session.many.get("hall"), client.get("/sources/hall/api/state")
    removed = client.request("DELETE", "/api/sources/hall")

    assert hub.json()["running"] and not live.running
    assert [one["name"] for one in removed.json()["sources"]] == ["door", "desk"]
    assert client.get("/sources/hall/api/state").status_code == 404
    assert client.request("DELETE", "/api/sources/hall").status_code == 404
    session.show("door")
    with pytest.raises(InvalidStatus):
        session.socket("/sources/hall/api/live")


@pytest.mark.parametrize(
    "about, told",
    [
        ({"name": "door", "source": "test"}, "already"),
        ({"name": "../up", "source": "test"}, "letters"),
        ({"name": "a", "source": "/etc/passwd"}, "given at the start"),
        ({"name": "a", "source": "/no/such/file"}, "given at the start"),
        ({"name": "a", "source": "file:///etc/passwd"}, "cannot open file://"),
        ({"name": "a", "source": "screen"}, "given at the start"),
        ({"name": "a", "source": "/dev/video77"}, "no camera"),
        ({"name": "a"}, "expected"),
    ],
)
def test_what_cannot_be_added_is_answered_with_what_can(session, about, told):
    said = session.client.post("/api/sources", json=about)

    assert said.status_code == 400 and told in said.json()["error"], said.text
    assert list(session.many.lives) == ["door", "desk"]


def test_other_websites_can_neither_add_nor_look_and_the_token_guards_every_page(tmp_path):
    with Session(tmp_path, token="a-long-enough-token") as session:
        client = session.client
        bearer = {"authorization": "Bearer a-long-enough-token"}
        assert client.get("/api/sources").status_code == 401
        assert client.get("/sources/door/api/state").status_code == 401
        assert client.get("/sources/door/api/state", headers=bearer).status_code == 200
        foreign = {**bearer, "origin": "http://evil.example"}
        answer = client.post("/api/sources", json={"name": "x", "source": "test"}, headers=foreign)
        assert answer.status_code == 403 and list(session.many.lives) == ["door", "desk"]
