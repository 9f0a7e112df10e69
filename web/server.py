"""The page's server: files, state, controls, and two sockets (pictures out, a camera in).

    GET  /  /obs  /app.js …           the page
    GET  /api/state                   everything the page shows, as JSON
    WS   /api/live?view=&rows=        pictures (web/hub.py) and, twice a second, the state
    WS   /api/camera                  JPEG pictures of this browser's camera
    POST /api/look                    {background?, edges?: {expand, feather}}
    POST /api/people/ID               {treatment?, name?}
    POST /api/recording               {on: true | false}
    POST /api/backgrounds             a picture or video as the body, its name in X-Name
    DELETE /api/backgrounds/ID
    GET  /api/people/ID.jpg  /api/backgrounds/ID.jpg  /api/recordings/NAME/FILE

A treatment is keep, remove, blur, a colour `#rrggbb`, or `upload:ID`.  Paths are never taken from
the page.  Every refusal is a sentence in `{"error": …}` that the page shows as it is.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stream.camera import LiveSource
from stream.compose import mark_colour
from stream.decode import InputError, _declared_size
from stream.edges import Edges
from stream.encode import OutputError
from stream.live import Live
from stream.sinks import Recording
from web.guard import Guard
from web.hub import VIEWS, Hub, Viewer
from web.uploads import Library, UploadError

PAGE = Path(__file__).resolve().parent / "page"
FILES = {"/": "index.html", "/obs": "obs.html", "/app.js": "app.js", "/picture.js": "picture.js",
         "/camera.js": "camera.js", "/obs.js": "obs.js", "/style.css": "style.css",
         "/icon.svg": "icon.svg"}  # fmt: skip
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
STATE_SECONDS = 0.5
LARGEST_REQUEST = 10_000  # bytes of a control's JSON
LARGEST_PICTURE = 4_000_000  # bytes of one picture of a browser's camera
MOST_CAMERA_PIXELS = 3840 * 2160
WORDS = ("keep", "remove", "blur", "marks")


class Refusal(Exception):
    """Something the page asked for cannot be done; the text is for its user."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class Desk:
    """What the page can see and do: the words of the page on one side, `Live` on the other."""

    def __init__(
        self, live: Live, hub: Hub, library: Library, recordings: Path,
        reopen: Callable[[], LiveSource] | None = None,
    ) -> None:  # fmt: skip
        self.live, self.hub, self.library = live, hub, library
        self._recordings = recordings
        self._reopen = reopen  # the source the program was started with, unless it is a browser
        self._done: dict[str, Recording] = {}
        self._camera_taken = threading.Lock()
        for word in (live.wishes.background, *live.wishes.people.values()):
            if self._is_file(word):
                library.add_given(word)

    @staticmethod
    def _is_file(word: str) -> bool:
        from stream.compose import Backdrop, Treatment

        if word in WORDS:
            return False
        treatment = Treatment.of(word)
        return (treatment.background or Backdrop.of("keep")).kind == "file"

    # -- seeing

    def state(self, viewer: Viewer | None = None) -> dict[str, Any]:
        live, source = self.live, self.live.source
        wishes, visible = live.wishes, set(live.visible)
        people = [
            {
                "id": person.id,
                "name": live.names.get(person.id, ""),
                "colour": "#{:02x}{:02x}{:02x}".format(*mark_colour(person.id)),
                "visible": person.id in visible,
                "treatment": self._told(wishes.people.get(person.id, "keep")),
                "picture": round(person.thumbnail_made * 10) if person.thumbnail else None,
                "seconds_ago": round(time.monotonic() - live.begun - person.last_seconds),
            }
            for person in live.seen()
        ]
        figures = live.figures()
        if viewer is not None:
            figures["page_ms"] = viewer.delay_ms
        return {
            "source": {
                "shown": Path(source.uri).name if source.kind == "file" else source.shown,
                "kind": source.kind, "state": source.state,
                "problem": source.problem, "size": list(source.size) if source.size else None,
            },
            "running": live.running,
            "problem": live.problem,
            "engine": getattr(live._engine, "name", ""),
            "figures": figures,
            "background": self._told(wishes.background),
            "edges": {"expand": wishes.edges.expand_pixels, "feather": wishes.edges.feather_pixels},
            "people": people,
            "library": [
                {"id": item.id, "name": item.name, "kind": item.kind,
                 "thumbnail": item.thumbnail is not None}
                for item in self.library.items
            ],
            "upload_bytes": self.library.limit_bytes,
            "recording": self._recording(),
            "recordings": [self._described(*named) for named in reversed(self._done.items())],
            "sinks": [sink.status() for sink in live.sinks if sink is not self.hub],
            "viewers": self.hub.viewers,
            "camera_taken": self._camera_taken.locked(),
        }  # fmt: skip

    def _recording(self) -> dict[str, Any] | None:
        recording = self.live.recording
        if recording is None:
            return None
        return {
            **recording.status(),
            "folder": f"{recording.folder.parent.name}/{recording.folder.name}",
            "seconds": round(time.monotonic() - recording.begun, 1),
        }

    def _described(self, name: str, recording: Recording) -> dict[str, Any]:
        files = [
            {"name": path.name, "bytes": path.stat().st_size}
            for path in recording.paths if path.is_file()
        ]  # fmt: skip
        return {"name": name, "frames": recording.frames, "dropped": recording.dropped,
                "people": recording.people, "problem": recording.problem,
                "files": files}  # fmt: skip

    def _told(self, word: str) -> str:
        """A treatment in the page's words: no path of this machine."""
        known = self.library.id_of(word)
        return f"upload:{known}" if known else word

    # -- doing

    def change_look(self, wanted: Mapping[str, Any]) -> None:
        background = wanted.get("background")
        edges = wanted.get("edges")
        made = None
        if edges is not None:
            old = self.live.wishes.edges
            made = Edges(
                float(edges.get("expand", old.expand_pixels)),
                float(edges.get("feather", old.feather_pixels)),
            )
        word = None if background is None else self._word(background, ("marks", "keep", "blur"))
        self.live.set_look(background=word, edges=made)

    def change_person(self, person: int, wanted: Mapping[str, Any]) -> None:
        if person not in self.live.people:
            raise Refusal(f"there is no person {person}", 404)
        if "name" in wanted:
            self.live.name(person, str(wanted["name"] or ""))
        if "treatment" in wanted:
            word = self._word(wanted["treatment"], ("keep", "remove", "blur"))
            self.live.set_look(people={person: None if word == "keep" else word})

    def _word(self, said: Any, words: tuple[str, ...]) -> str:
        if isinstance(said, str):
            if said in words or re.fullmatch(r"#[0-9a-fA-F]{6}", said):
                return said
            item = self.library.get(said.removeprefix("upload:"))
            if said.startswith("upload:") and item:
                return str(item.path)
            if said.startswith("upload:"):
                raise Refusal("this background is not there any more", 404)
        raise Refusal(f"expected {', '.join(words)}, a colour such as #00b140, or an upload")

    def remove_background(self, id: str) -> None:
        item = self.library.get(id)
        if item is None:
            return
        path = str(item.path)
        wishes = self.live.wishes
        people = {number: None for number, word in wishes.people.items() if word == path}
        background = "keep" if wishes.background == path else None
        if people or background:
            self.live.set_look(background=background, people=people)
        self.library.remove(id)

    def record(self, on: bool) -> None:
        if on:
            if self.live.source.size is None:
                raise Refusal("there is no picture to record yet", 409)
            name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            folder = self._recordings / name
            again = 2
            while folder.exists() or name in self._done:
                folder = self._recordings / f"{name}_{again}"
                again += 1
            try:
                self.live.record(folder)
            except ValueError as error:
                raise Refusal(str(error), 409) from None
            return
        done = self.live.stop_recording()
        if done is not None:
            self._done[done.folder.name] = done

    def recorded(self, name: str, file: str) -> Path:
        recording = self._done.get(name)
        for path in recording.paths if recording else ():
            if path.name == file and path.is_file():
                return path
        raise Refusal("there is no such recording", 404)

    # -- a browser's camera

    def take_camera(self) -> LiveSource:
        """The source to push a browser's pictures into; one browser at a time."""
        if not self._camera_taken.acquire(blocking=False):
            raise Refusal("another page is sharing its camera", 409)
        source = self.live.source
        if source.kind != "browser":
            size = source.size if self.live.recording else None
            source = LiveSource("browser", size=size)
            self.live.switch(source)
        return source

    def give_camera_back(self, source: LiveSource) -> None:
        source.lose("the browser has stopped sharing its camera")
        try:
            if self._reopen is not None and self.live.running:
                self.live.switch(self._reopen())
        finally:
            self._camera_taken.release()


# ------------------------------------------------------------------------------------- the app


def application(
    desk: Desk, *, token: str | None = None, names: tuple[str, ...] = (), tls: bool = False
) -> Guard:
    """The ASGI application."""
    return Guard(pages(desk), token=token, names=names, tls=tls)


def file_of_the_page(name: str) -> Callable[[Request], Any]:
    """The handler for a file of `page/`."""

    async def page(request: Request) -> Response:
        return Response((PAGE / name).read_bytes(), media_type=TYPES[Path(name).suffix])

    return page


async def refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status", 400)
    return JSONResponse({"error": str(error)}, status)


async def missing(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = error.detail if isinstance(error, HTTPException) else "our own mistake; see the log"
    return JSONResponse({"error": text}, status)


# What the page is told in a sentence, each by the handler for it.
ANSWERS: Any = {
    **dict.fromkeys((Refusal, UploadError, InputError, OutputError, ValueError), refused),
    HTTPException: missing,
}


def pages(desk: Desk) -> Starlette:
    """One session's page, unguarded, under whatever path it is mounted."""

    async def state(request: Request) -> Response:
        return JSONResponse(desk.state())

    async def look(request: Request) -> Response:
        return await done(desk.change_look, await asked(request))

    async def person(request: Request) -> Response:
        return await done(desk.change_person, int(request.path_params["id"]), await asked(request))

    async def recording(request: Request) -> Response:
        return await done(desk.record, bool((await asked(request)).get("on")))

    async def upload(request: Request) -> Response:
        desk.library.check_room(request.headers.get("content-length"))
        path = await desk.library.receive(request.stream())
        name = unquote(request.headers.get("x-name", ""))
        item = await run_in_threadpool(desk.library.take_in, path, name)
        return JSONResponse({"id": item.id, "state": desk.state()}, 201)

    async def remove(request: Request) -> Response:
        return await done(desk.remove_background, request.path_params["id"])

    async def face(request: Request) -> Response:
        known = desk.live.people.get(int(request.path_params["id"]))
        if known is None or not known.thumbnail:
            raise Refusal("no picture of this person yet", 404)
        return Response(known.thumbnail, media_type="image/jpeg")

    async def background(request: Request) -> Response:
        item = desk.library.get(request.path_params["id"])
        if item is None or item.thumbnail is None:
            raise Refusal("no such background", 404)
        return FileResponse(item.thumbnail, media_type="image/jpeg")

    async def file(request: Request) -> Response:
        path = desk.recorded(request.path_params["name"], request.path_params["file"])
        return FileResponse(path, filename=f"{path.parent.name}_{path.name}")

    async def done(do: Callable[..., None], *about: Any) -> Response:
        await run_in_threadpool(do, *about)  # opening a video, closing a recording: not on the loop
        return JSONResponse(desk.state())

    async def pictures(socket: WebSocket) -> None:
        view = socket.query_params.get("view", "result")
        rows = socket.query_params.get("rows", "")
        await socket.accept()
        try:
            if view not in VIEWS:
                raise ValueError(f"view should be one of {', '.join(VIEWS)}")
            viewer = desk.hub.join(view, max(90, int(rows)) if rows.isdecimal() else None)
        except ValueError as error:
            await socket.close(4409, str(error)[:120])
            return
        jobs = [asyncio.create_task(job(socket, viewer)) for job in (_send, _tell, _hear)]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            desk.hub.leave(viewer)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

    async def _send(socket: WebSocket, viewer: Viewer) -> None:
        while True:
            await socket.send_bytes(await viewer.queue.get())

    async def _tell(socket: WebSocket, viewer: Viewer) -> None:
        while True:
            await socket.send_text(json.dumps(desk.state(viewer)))
            await asyncio.sleep(STATE_SECONDS)

    async def _hear(socket: WebSocket, viewer: Viewer) -> None:
        while True:
            said = await socket.receive_text()
            if len(said) > 200:
                return
            about = json.loads(said)
            if isinstance(about, dict) and isinstance(about.get("drawn"), int):
                viewer.drawn(about["drawn"])

    async def camera(socket: WebSocket) -> None:
        await socket.accept()
        try:
            source = desk.take_camera()
        except Refusal as error:
            await socket.close(4409, str(error))
            return
        try:
            while True:
                data = await socket.receive_bytes()
                rgb = await run_in_threadpool(_camera_picture, data)
                if rgb is None:
                    await socket.close(4400, "pictures should be JPEG, 3840 x 2160 at most")
                    return
                source.push(rgb)
                await socket.send_text('{"taken":1}')
        except (WebSocketDisconnect, KeyError, RuntimeError):
            pass
        finally:
            await asyncio.shield(run_in_threadpool(desk.give_camera_back, source))

    routes = [
        *(Route(path, file_of_the_page(name), methods=["GET"]) for path, name in FILES.items()),
        Route("/api/state", state, methods=["GET"]),
        Route("/api/look", look, methods=["POST"]),
        Route("/api/people/{id:int}.jpg", face, methods=["GET"]),
        Route("/api/people/{id:int}", person, methods=["POST"]),
        Route("/api/recording", recording, methods=["POST"]),
        Route("/api/backgrounds", upload, methods=["POST"]),
        Route("/api/backgrounds/{id}.jpg", background, methods=["GET"]),
        Route("/api/backgrounds/{id}", remove, methods=["DELETE"]),
        Route("/api/recordings/{name}/{file}", file, methods=["GET"]),
        WebSocketRoute("/api/live", pictures),
        WebSocketRoute("/api/camera", camera),
    ]
    return Starlette(routes=routes, exception_handlers=ANSWERS)


async def asked(request: Request) -> dict[str, Any]:
    """The JSON object of a control.  Only as JSON: a form of another page cannot say that."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal("controls are sent as application/json", 415)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_REQUEST:
            raise Refusal("the request is too long", 413)
    try:
        about = json.loads(body)
    except ValueError:
        raise Refusal("the request is not JSON") from None
    if not isinstance(about, dict):
        raise Refusal("the request should be a JSON object")
    return about


def _camera_picture(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 of a JPEG that is not larger than it may be, else None."""
    if len(data) > LARGEST_PICTURE or data[:3] != b"\xff\xd8\xff":
        return None
    height, width = _declared_size(data[:65536])
    if min(height, width) < 16 or height * width > MOST_CAMERA_PIXELS:
        return None
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


# ------------------------------------------------------------------------------------ serving


class Page:
    """The served page, on a thread of its own.  Raises OutputError when the port is taken."""

    def __init__(
        self, app: Any, host: str, port: int, *, certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:  # fmt: skip
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise OutputError(
                f"the page cannot be served at {host}:{port} ({error.strerror}); "
                "another --port may be free, and 0 takes one that is"
            ) from None
        self.port = self._socket.getsockname()[1]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        shown = f"[{shown}]" if ":" in shown else shown
        self.url = f"{'https' if certificate else 'http'}://{shown}:{self.port}/"
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", access_log=False, lifespan="off", ws="websockets-sansio",
                ws_max_size=LARGEST_PICTURE, ws_per_message_deflate=False, server_header=False,
                timeout_graceful_shutdown=2, h11_max_incomplete_event_size=65536,
                ssl_certfile=str(certificate) if certificate else None,
                ssl_keyfile=str(key) if key else None,
            )
        )  # fmt: skip
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="page", daemon=True
        )
        self._thread.start()
        end = time.monotonic() + 10
        while not self._server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        if not self._server.started:
            raise OutputError("the page's server did not start; --debug and the log above say why")

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
